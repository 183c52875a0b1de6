"""A child process: run it within a limit, keep the end of what it wrote, and say what it died of.

What crashes or hangs there takes nothing with it: it becomes one `ChildError`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import GateError

_LINES, _LINE = 8, 200  # of a log, for people


class ChildError(GateError):
    """A child process refused, died or hung. `reason`: one line; `log`: the last lines that it wrote.

    Args:
        about: what it ran, where the reason alone does not tell.
    """

    def __init__(self, reason: str, wanted: str, do: str, log: Sequence[str] = (), about: str = "") -> None:
        tail = "".join(f"\n  {line}" for line in log)
        saw = f"{about}: {reason}" if about else reason
        super().__init__(saw, wanted, f"{do} Its last lines:{tail}" if tail else do)
        self.reason, self.log = reason, list(log)


NO_ANSWER = "no answer within"  # how the reason begins where the time was over


def run_limited(command: Sequence[str], log: Path, limit_s: float) -> str:
    """Run `command` in a session of its own, which is killed whole at the end; why it failed, or "".

    Args:
        log: file for all that it writes.
    """
    with log.open("wb") as said:
        child = subprocess.Popen(
            command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"{NO_ANSWER} {limit_s:g} s"
        finally:
            kill_session(child)
    return cause_of_death(child.returncode) if child.returncode else ""


def kill_session(child: subprocess.Popen[Any]) -> None:
    """Kill what is left of a child that began a session: the child itself, and what it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        child.wait()


def cause_of_death(code: int) -> str:
    """What a return code that is not 0 says."""
    if code >= 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (" (as when memory runs out)" if name == "SIGKILL" else "")


def last_lines(path: Path, count: int = _LINES) -> list[str]:
    """The end of a log, for people; none where there is no log."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip()[:_LINE] for line in deque(file, count)]


def last_line(text: str) -> str:
    """The last line of what a process wrote, which is its reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LINE].removeprefix("error: ") if lines else "no reason given"
