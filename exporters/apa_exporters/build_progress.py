"""Run a builder as a child process, and show its phases: one bar on a terminal, one line a phase when piped.

A builder reports one line of JSON each on standard output, the last of which holds "result" or "error". It is
alone in its process, so that what kills it kills no export.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from apa_deploy.child_process import ChildError, cause_of_death
from apa_deploy.escaping import printable
from apa_deploy.terminal import Terminal

Report = dict[str, Any]


def last_report(
    script: Path, arguments: Sequence[str], said: Path, on_report: Callable[[Report], None]
) -> tuple[Report, str]:
    """Run `script` to its end; its last report, and why it has no result ("" where it has one).

    Args:
        said: file for what it writes on standard error.
        on_report: receives each report of progress.
    """
    command = [sys.executable, "-P", str(script), *arguments]
    with (
        said.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        try:
            last = _last_report(child, on_report)
        except BaseException:
            child.kill()
            raise
    failed = "result" not in last or child.returncode
    return last, (last.get("error") or cause_of_death(child.returncode)) if failed else ""


def _last_report(child: subprocess.Popen[str], on_report: Callable[[Report], None]) -> Report:
    assert child.stdout is not None  # it is a pipe
    last: Report = {}
    for line in child.stdout:
        last = json.loads(line)
        on_report(last)
    return last


def engine_error(reason: str, log: list[str]) -> ChildError:
    """The builder refused or died. `reason`: its message or signal; `log`: the last lines it wrote."""
    return ChildError(reason, "an engine", "No engine was written.", log)


@contextmanager
def show_progress() -> Iterator[Callable[[Report], None]]:
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
