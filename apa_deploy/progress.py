"""Progress of long work on standard error: a spinner on a terminal, plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


def _console() -> Console:
    return Console(stderr=True, highlight=False, markup=False)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show that `what` is under way, then how long it took."""
    console, start = _console(), time.perf_counter()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(f"{what} ...", soft_wrap=True)
        yield
    console.print(f"{what}: {time.perf_counter() - start:.1f} s", soft_wrap=True)


def notice(text: str) -> None:
    """Say one thing that the user should know."""
    _console().print(f"note: {text}", soft_wrap=True)
