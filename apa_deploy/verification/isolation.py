"""Work in a process of its own, with a time limit: a candidate that crashes or hangs takes nothing with it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from ..child_process import ChildError, last_lines, run_limited
from .record import FailureRecord
from .work import Answer, Recorded, Work, as_recorded, load_results

_DO = "Run it alone with its runtime's own tool."


def run_isolated(work: Work, name: str, timeout: float) -> tuple[Answer, Recorded]:
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
        command = [sys.executable, "-P", "-m", "apa_deploy.verification.worker", str(described)]
        if reason := run_limited(command, log, timeout):
            hangs = reason.startswith("no answer")
            do = "Pass a longer --timeout, or look why it hangs." if hangs else _DO
            error = ChildError(reason, f"{name} to run", do, last_lines(log))
            return Answer(failure=FailureRecord.of(error)), {}
        answer = Answer.model_validate_json(Path(work.answer).read_text(encoding="utf-8"))
        results = Path(work.results)
        return answer, as_recorded(load_results(results)) if results.exists() else {}
