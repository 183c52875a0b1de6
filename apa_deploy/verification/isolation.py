"""Work in a process of its own, with a time limit: a candidate that crashes or hangs takes nothing with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

from ..errors import GateError
from .record import Failure
from .work import Answer, Recorded, Work, as_recorded, load_results

_LAST_LINES, _LINE = 5, 200
_DO = "Run it alone with its runtime's own tool."


class WorkerError(GateError):
    """A worker process died or hung. `reason`: its signal, code or limit; `log`: the last lines it wrote."""

    def __init__(self, reason: str, name: str, log: list[str], do: str = _DO) -> None:
        tail = "".join(f"\n  {line}" for line in log)
        super().__init__(reason, f"{name} to run", f"{do} Its last lines:{tail or ' none'}")
        self.reason, self.log = reason, log


def isolated(work: Work, name: str, timeout: float) -> tuple[Answer, Recorded]:
    """Do the work in a child process; whatever happens to it becomes an answer.

    Args:
        name: of what is run, for messages.
        timeout: seconds after which it is killed, with every process that it started.
    """
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        work.answer, work.results = f"{folder}/answer.json", f"{folder}/results.json"
        work.path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 - text for the child's sys.path
        described, log = Path(folder) / "work.json", Path(folder) / "log"
        described.write_text(work.model_dump_json(), encoding="utf-8")
        try:
            _run(described, log, name, timeout)
            answer = Answer.model_validate_json(Path(work.answer).read_text(encoding="utf-8"))
            results = Path(work.results)
            return answer, as_recorded(load_results(results)) if results.exists() else {}
        except WorkerError as error:
            return Answer(failure=Failure.of(error)), {}


def _run(described: Path, log: Path, name: str, timeout: float) -> None:
    command = [sys.executable, "-P", "-m", "apa_deploy.verification.worker", str(described)]
    with log.open("wb") as said:
        child = subprocess.Popen(
            command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            reason = f"no answer within {timeout:g} s"
            raise WorkerError(reason, name, _tail(log), "Pass a longer --timeout, or look why it hangs.") from error
        finally:
            _end(child)
    if child.returncode:
        raise WorkerError(_death(child.returncode), name, _tail(log))


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's session: the child itself, and what it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        child.wait()


def _death(code: int) -> str:
    if code > 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


def _tail(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip()[:_LINE] for line in deque(file, _LAST_LINES)]
