"""What mkdocs asks while it builds the site: pages that are generated, and links that lead out of docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from tools.docs import reference

ROOT = Path(__file__).resolve().parents[2]
# Pages of the repository's top that the site has too.
TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "THIRD_PARTY.md": "third-party.md",
    "examples/README.md": "gallery.md",
}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    pages = {page: _at_top_of_docs((ROOT / source).read_text(encoding="utf-8")) for source, page in TOP.items()}
    pages["gallery.md"] += reference.example_sources()
    pages |= {
        "reference/cli.md": reference.command_line(),
        "reference/python.md": reference.python(),
        "reference/errors.md": reference.errors(),
        "reference/passport.md": reference.passport(),
        "reference/passport.schema.json": reference.passport_schema(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _at_top_of_docs(text: str) -> str:
    """The links of a page beside docs/, as a page inside has them."""
    text = re.sub(r'(\]\(|src="|srcset=")(?:\.\./)?docs/', r"\1", text)
    for source, page in TOP.items():
        text = re.sub(rf"\]\((?:\.\./)?{re.escape(source)}(?=[)#])", f"]({page}", text)
    # the examples' own files are shown below their table
    return re.sub(r"\]\(([\w/]+\.(?:py|sh|yaml))\)", lambda m: f"](#{reference.anchor(m[1])})", text)


def _bare(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page as Python's Markdown wants it: not all that GitHub reads.

    Fences lose what only the tests read (`python needs=timm`), code in tables the backslash before |; links lead to
    pages of the repository's top.
    """
    markdown = re.sub(r"^\|.*", lambda row: re.sub(r"`[^`]*`", _bare, row[0]), markdown, flags=re.MULTILINE)
    markdown = re.sub(r"^```(\w+) needs=\w+$", r"```\1", markdown, flags=re.MULTILINE)
    above = "../" * page.file.src_uri.count("/")
    for source, name in TOP.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(source)}(?=[)#])", f"]({above}{name}", markdown)
    return markdown
