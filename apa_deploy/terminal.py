"""What is shown on a terminal or in a log: text is data, tables never cut a name."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from .escaping import printable

_UNLIMITED = 10**6
_NO_BREAK = "\N{NO-BREAK SPACE}"  # textwrap breaks at none
_LONGEST = 1200  # characters of a line of an error: a name in it may have thousands


class Terminal(Console):
    """A console that takes every string as data: no markup, no emoji codes, no control character gets through.

    Args:
        stderr: standard error instead of standard output.
        width: columns; None: those of the terminal or of COLUMNS, else as many as the text needs.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None, file: Any = None) -> None:
        super().__init__(
            stderr=stderr, width=width, file=file, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self.limit = width or (self.width if self.is_terminal or os.environ.get("COLUMNS") else None)
        self.width = self.limit or _UNLIMITED

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's, of the escaped text: whatever is printed comes through here."""
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; a line of text that is too long breaks between words and goes on indented, no name is cut."""
        if self.limit is None or not all(isinstance(one, str) for one in objects):
            super().print(*objects, **options)
            return
        text = printable(" ".join(objects))
        if len(text) > self.limit:
            indent = " " * (len(text) - len(text.lstrip()))
            text = "\n".join(self._wrap(text.strip(), indent, f"{indent}  "))
        super().print(Text(text), **options)

    def print_lines(self, text: str) -> None:
        """Print a text that may hold lines of another program: these are indented, so that none passes for ours."""
        for i, line in enumerate(text.split("\n")):
            self.print(f"  {line}" if i else line)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
        """Print a table as it is where it fits; else what is the same in every row once, or a block a row."""
        kept = list(range(len(headers)))
        if len(rows) > 1 and not self._fits(_table(headers, rows, kept)):
            kept = [i for i in kept if i == 0 or len({row[i] for row in rows}) > 1]
        if title:
            self.print(title)
        if same := [f"{headers[i]} {rows[0][i]}" for i in range(len(headers)) if i not in kept]:
            self._print_pairs("in every row:", same, "")
        table = _table(headers, rows, kept)
        if self._fits(table):
            self.print(table, width=self._natural(table))
            return
        for row in rows:
            self.print(row[0])
            self._print_pairs("", [f"{headers[i]} {row[i]}" for i in kept[1:] if row[i]], "  ")

    def _fits(self, table: Table) -> bool:
        return self.limit is None or self._natural(table) <= self.limit

    def _natural(self, table: Table) -> int:
        return Measurement.get(self, self.options.update(max_width=_UNLIMITED), table).maximum

    def _print_pairs(self, start: str, pairs: Sequence[str], indent: str) -> None:
        """Names with their values, separated by commas: a line ends between two of them."""
        kept = [printable(pair).replace(" ", _NO_BREAK) for pair in pairs]
        for line in self._wrap(f"{start} {', '.join(kept)}".strip(), indent, indent):
            super().print(Text(line.replace(_NO_BREAK, " ")))

    def _wrap(self, text: str, first: str, others: str) -> list[str]:
        """Lines of `text`; a word that is longer than a line has one of its own."""
        return textwrap.wrap(
            text, self.limit or _UNLIMITED, initial_indent=first, subsequent_indent=others,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], kept: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for i in kept:
        table.add_column(headers[i], no_wrap=True)
    for row in rows:
        table.add_row(*(row[i] for i in kept))
    return table


def print_error(message: str) -> None:
    """`error: message` on standard error; further lines are indented, so that none of them passes for ours."""
    lines = [printable(line) for line in f"error: {message}".split("\n")]
    print("\n  ".join(_shorten(line) for line in lines), file=sys.stderr)


def _shorten(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 400]} ... {line[-395:]}"
