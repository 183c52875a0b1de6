"""All 2^32 floats through the kernels' arithmetic on the device, beside the formula in float64 there
(device/exhaustive.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .outcome import Outcome, State
from .programs import ask
from .time_limits import NEVER, Deadline, Limit

# The documented bound of a float32 result, of max(1, |y|): docs/tensorrt-plugin.md, plugins/tests/trt_reference.h.
BOUND = 1.5e-6
PAIRS = 24  # of lambda and kappa, each for gate and unit
FLOATS = 2**32
_LIMIT = Limit(150, 0)


def check_every_float(program: Path, folder: Path, every: int = 1, deadline: Deadline = NEVER) -> Outcome:
    """Run the program and judge it. `every`: only each so many.

    Raises:
        MissingError: no device.
    """
    answer = ask([program, str(every)], deadline.allow(_LIMIT), folder / "exhaustive.log")
    return judge_floats(answer.rows, answer.reason, every)


def judge_floats(rows: Sequence[dict[str, Any]], reason: str = "", every: int = 1) -> Outcome:
    """Whether every row keeps the bound, and all rows are there."""
    reasons = [reason] if reason else []
    if not reason and len(rows) != 2 * PAIRS:
        reasons.append(f"{len(rows)} of {2 * PAIRS} rows")
    for row in rows:
        what = f"{row['kind']}, lambda {row['lambda']:g}, kappa {row['kappa']:g}"
        if row["floats"] != FLOATS // every:
            reasons.append(f"{what}: {row['floats']} floats of {FLOATS // every}")
        if not row["worst"] <= BOUND:
            reasons.append(f"{what}: {row['worst']:.3g} at {row['at']}, the bound is {BOUND:g}")
        if row["wrong"]:
            reasons.append(f"{what}: {row['wrong']} results are wrongly finite or not, such as {row['at']}")
    facts = {"worst of all": max((row["worst"] for row in rows), default=None), "bound": BOUND}
    state = State.FAILED if reasons else State.PASSED
    return Outcome("exhaustive", state, "; ".join(reasons), rows=list(rows), facts=facts)
