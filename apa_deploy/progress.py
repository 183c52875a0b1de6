"""Progress of long work on standard error: a spinner on a terminal, plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.text import Text

from .escaping import printable
from .terminal import Terminal


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show that `what` is under way, then how long it took."""
    console, start = Terminal(stderr=True), time.perf_counter()
    if console.is_terminal:
        with console.status(Text(printable(what))):
            yield
    else:
        console.print(f"{what} ...")
        yield
    console.print(f"{what}: {time.perf_counter() - start:.1f} s")


def notice(text: str) -> None:
    """Say one thing that the user should know."""
    Terminal(stderr=True).print(f"note: {text}")
