"""Parts that need no TensorRT: the plugin built for the device, its kernels' tests there, and their bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apa_deploy.doctor.fat_binary import gpu_code
from apa_deploy.errors import GateError

from . import building
from .analysis import bandwidth_row
from .clocks import Watch
from .outcome import Outcome, State
from .programs import ask
from .time_limits import Deadline, Limit

SAMPLES, SIZES_MIB = 40, (8, 64, 256)
_SUITE, _BANDWIDTH = Limit(120, 3), Limit(120, 0)


def check_plugin(library: Path, architecture: int) -> Outcome:
    """Whether the plugin holds code for this device: its own, or of an older member of its family."""
    code = gpu_code(library)
    row = {
        "library": library.name,
        "machine code": sorted(code.machine),
        "PTX": sorted(code.ptx),
        "CUDA": code.cuda,
    }
    family = [one for one in code.machine if one // 10 == architecture // 10 and one <= architecture]
    good = bool(family) or any(one <= architecture for one in code.ptx)
    reason = "" if good else f"neither machine code for sm_{architecture} nor PTX that it takes"
    return Outcome("plugin", State.PASSED if good else State.FAILED, reason, rows=[row])


def run_kernel_suites(
    programs: Mapping[str, Path], folder: Path, keep: Callable[[Outcome], None], deadline: Deadline
) -> Outcome:
    """Every suite of the plugin's kernel tests, on the device: all float16 and bfloat16 values, all layouts.

    Raises:
        MissingError: no device.
    """
    outcome = Outcome("kernels", State.PASSED)
    suites = [(source.removesuffix(".cc"), suite) for source, names in building.SUITES.items() for suite in names]
    for number, (source, suite) in enumerate(suites, 1):
        program, name = programs[source], f"{source} {suite}"
        seconds = deadline.allow(_SUITE, [_SUITE] * (len(suites) - number))
        answer = ask([program, suite], max(1.0, seconds), folder / f"{name}.log")
        passed = not answer.reason
        outcome.rows.append({"suite": name, "passed": passed, "said": answer.lines[-3:]})
        if not passed:
            outcome.state = State.FAILED
            outcome.reason = f"failed: {name}" if not outcome.reason else f"{outcome.reason}, {name}"
        keep(outcome)
    return outcome


def bandwidth(program: Path, folder: Path, deadline: Deadline) -> Outcome:
    """Each kernel beside a copy on the device.

    Raises:
        MissingError: no device.
        GateError: the program failed before its first row.
    """
    sizes = [str(mib << 20) for mib in SIZES_MIB]
    with Watch() as watch:
        answer = ask([program, str(SAMPLES), *sizes], deadline.allow(_BANDWIDTH), folder / "bandwidth.log")
    device, *rows = answer.rows or [{}]
    if not rows:
        raise GateError(
            f"bandwidth: {' '.join([answer.reason, *answer.lines[-3:]])}",
            "rows of times",
            "See nvidia-smi and dmesg.",
        )
    outcome = judge_bandwidth({"device": device, "rows": rows}, watch.facts())
    if answer.reason:
        outcome.state, outcome.reason = State.FAILED, "; ".join(filter(None, [answer.reason, outcome.reason]))
    return outcome


def judge_bandwidth(document: dict[str, Any], clocks: dict[str, object]) -> Outcome:
    """What the device program printed, judged; its raw samples are kept."""
    device = document["device"]
    rows = [bandwidth_row(row, device["l2_bytes"], device["name"]) for row in document["rows"]]
    slow = [f"{row['kernel']} {row['element']} {row['MiB']} MiB" for row in rows if row["good"] is False]
    reason = f"below what the roofline allows: {'; '.join(slow)}" if slow else ""
    facts = {"device": device, "clocks": clocks, "samples": document["rows"]}
    return Outcome("bandwidth", State.FAILED if slow else State.PASSED, reason, rows=rows, facts=facts)
