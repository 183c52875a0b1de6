"""Names from files are data: how they are shown where control characters, markup or formulas would act.

`printable` serves terminals, HTML and drawings; `in_markdown` and `in_json` add what those need. They stand at the
edge, where text leaves the program, so that nothing inside has to think of it.
"""

from __future__ import annotations

import json
import re

# What starts emphasis, code, links, images, tables, tags, entities and GitHub's formulas; `_` not inside a word.
# An interval of numbers, [0.93, 0.97], is no link.
_MARKUP = re.compile(r"[\\`*<>~|$&]|\[(?![-+\d., e]+\](?![(\[:]))|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# At the start of a line: headings, lists, rules.
_BLOCK = re.compile(r"^(\s*)(#{1,6}(?=\s|$)|[+-](?=\s|$)|[=-]{2,}|\d+(?=[.)](?:\s|$)))")
# What GitHub makes a link of without any markup; a reference needs no word before it.
_LINKED = re.compile(r"://|www\.|@|(?<!\w)#(?=\d)", re.IGNORECASE)


def printable(text: str) -> str:
    r"""`text` with what is no visible character (ESC, newline, bidi marks, lone surrogates) as `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_markdown(text: str) -> str:
    """`text` so that Markdown shows it letter by letter, in tables too: no link, image, heading, tag, formula."""
    text = _MARKUP.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), printable(text))
    text = _LINKED.sub(lambda match: f"{match[0][:-1]}&#{ord(match[0][-1])};", text)
    return _BLOCK.sub(lambda match: f"{match[1]}&#{ord(match[2][0])};{match[2][1:]}", text)


def in_json(document: str) -> str:
    r"""A JSON document in visible ASCII: what else stands in its strings as `\u202e`."""
    if document.isascii() and document.replace("\n", "").isprintable():
        return document
    return "".join(c if c == "\n" or (c.isascii() and c.isprintable()) else json.dumps(c)[1:-1] for c in document)
