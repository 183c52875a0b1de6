"""Show the builder's phases: one bar on a terminal, one line a phase when piped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from apa_deploy.escaping import printable
from apa_deploy.terminal import Terminal

from .child import Report


@contextmanager
def shown() -> Iterator[Callable[[Report], None]]:
    """Yield what `build_in_child` should call with each report."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress)


class _Lines:
    """Names each phase of the second level once: a few lines, not thousands of steps."""

    def __init__(self, console: Terminal) -> None:
        self._console, self._top, self._named = console, "", set[str]()

    def __call__(self, report: Report) -> None:
        if "steps" not in report:
            return
        phase, parent = report["phase"], report["parent"]
        if parent is None:
            self._top = phase
        elif parent == self._top and phase not in self._named:
            self._named.add(phase)
            self._console.print(f"  {self._top}: {phase}")


class _Bar:
    """The innermost phase that is under way, and how far it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def __call__(self, report: Report) -> None:
        phase = report.get("phase", "")
        if "steps" in report:
            self._bars[phase] = self._progress.add_task(printable(phase), total=report["steps"])
        elif phase in self._bars and "done" in report:
            self._progress.update(self._bars[phase], completed=report["done"] + 1)
        elif phase in self._bars:
            self._progress.remove_task(self._bars.pop(phase))
