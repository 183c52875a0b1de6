"""Run a builder as a child process: pass its progress on, turn its death into an error.

A builder reports one line of JSON each on standard output, the last of which holds "result" or "error". It is
alone in its process, so that what kills it kills no export.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from apa_deploy.errors import GateError

Report = dict[str, Any]
_LAST_LINES, _LINE = 8, 200


class EngineError(GateError):
    """The builder refused or died. `reason`: its message or signal; `log`: the last lines it wrote."""

    def __init__(self, reason: str, log: list[str]) -> None:
        tail = "".join(f"\n  {line}" for line in log)
        super().__init__(reason, "an engine", f"No engine was written. The builder's last lines:{tail or ' none'}")
        self.reason, self.log = reason, log


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
    return last, (last.get("error") or _death(child.returncode)) if failed else ""


def _last_report(child: subprocess.Popen[str], on_report: Callable[[Report], None]) -> Report:
    assert child.stdout is not None  # it is a pipe
    last: Report = {}
    for line in child.stdout:
        last = json.loads(line)
        on_report(last)
    return last


def _death(code: int) -> str:
    if code >= 0:
        return f"the builder's process ended with code {code}"
    name = signal.Signals(-code).name
    hint = ", as when memory runs out" if name == "SIGKILL" else ""
    return f"the builder's process was ended by {name}{hint}"


def last_lines(path: Path) -> list[str]:
    """The end of a log, for people."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip()[:_LINE] for line in deque(file, _LAST_LINES)]
