"""A built library, driven on the device as its host drives it: that for TensorRT through IPluginV3, that for ONNX
Runtime through its API of custom operators (plugins/tests/*_on_device_test.cc). As it is, with its PTX compiled by
the driver, and under compute-sanitizer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .outcome import Outcome, State
from .programs import Answer, ask
from .time_limits import Deadline, Limit, later_ones

PTX_OF = 90  # compute capability of the library's PTX: older GPUs have machine code alone
# In this order; together no more than the part that they are of (tests/tools/test_gpu_check_time.py).
RUNS = {
    "as built": Limit(100, 30),
    "from PTX": Limit(45, 15),
    "dependent": Limit(40, 10),  # the plugin's layers as dependent launches
    "memcheck": Limit(65, 12),
    "racecheck": Limit(65, 10),
}
_SANITIZER = "compute-sanitizer"


def drive_library(
    part: str,
    program: Path,
    named: Mapping[str, Path],
    folder: Path,
    capability: int,
    keep: Callable[[Outcome], None],
    deadline: Deadline,
) -> Outcome:
    """Every suite of every run that this machine can do.

    Args:
        named: the library, under the variable that the program reads.
        capability: of the GPU, such as 90.
        keep: takes what is known so far.
        deadline: of all of it; a run that has no time left is told.

    Raises:
        MissingError: no device.
    """
    outcome = Outcome(part, State.PASSED)
    for name, limit in RUNS.items():
        command, environment, why_not = _command(part, name, program, capability)
        seconds = deadline.allow(limit, later_ones(RUNS, name))
        why_not = why_not or ("no time is left" if seconds < 1 else "")
        if why_not:
            outcome.rows.append({"run": name, "suite": f"skipped: {why_not}", "checks": 0, "failures": 0})
            continue
        variables = {variable: str(library) for variable, library in named.items()} | environment
        answer = ask(command, seconds, folder / f"{part} {name}.log", variables)
        _add(outcome, name, answer)
        keep(outcome)
    if not any(row["checks"] for row in outcome.rows) and outcome.state is State.PASSED:
        outcome.state, outcome.reason, outcome.do = (
            State.SKIPPED,
            "no time was left",
            "Give it more time, or run it alone.",
        )
    return outcome


def _command(part: str, name: str, program: Path, capability: int) -> tuple[list[str | Path], dict[str, str], str]:
    """What to run, in which environment; or why not."""
    if name == "as built":
        return [program], {}, ""
    if name == "from PTX":
        old = f"its PTX is of {PTX_OF / 10}, the GPU of {capability / 10}" if capability < PTX_OF else ""
        return [program, "--small"], {"CUDA_FORCE_PTX_JIT": "1", "CUDA_CACHE_DISABLE": "1"}, old
    if name == "dependent":
        old = f"the GPU is of {capability / 10}, dependent launches are of 9.0" if capability < 90 else ""
        why_not = "the operators have no dependent launches" if part == "operators" else old
        return [program, "--small"], {"APA_DEPENDENT_LAUNCH": "1"}, why_not
    found = shutil.which(_SANITIZER)
    command: list[str | Path] = [found or "", "--tool", name, "--error-exitcode", "9", program, "--small"]
    return command, {}, "" if found else f"{_SANITIZER} is not in PATH"


def _add(outcome: Outcome, name: str, answer: Answer) -> None:
    rows: list[dict[str, Any]] = [{"run": name, **row} for row in answer.rows]
    facts = {row["suite"]: row.pop("facts") for row in rows if row.get("facts")}
    if facts:
        outcome.facts[name] = facts
    sanitized, failing = name in ("memcheck", "racecheck"), any(row["failures"] for row in rows)
    if sanitized and not rows:  # it refuses some virtual machines before anything runs
        said = answer.lines[-1] if answer.lines else answer.reason
        rows = [{"run": name, "suite": f"skipped: {said}", "checks": 0, "failures": 0}]
    elif sanitized and answer.is_cut_off and not failing:  # it is slow, which is no fault: what it saw was good
        rows.append({"run": name, "suite": f"cut off: {answer.reason}", "checks": 0, "failures": 0})
    elif answer.reason or failing:
        outcome.state = State.FAILED
        failed = ", ".join(row["suite"] for row in rows if row["failures"]) or answer.reason
        outcome.reason = "; ".join(filter(None, [outcome.reason, f"{name}: {failed}"]))
        outcome.facts[f"{name}, said"] = [line for line in answer.lines if line][-20:]
    outcome.rows += rows
