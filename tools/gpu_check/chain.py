"""Chains of layers, launched plainly and as dependent launches (device/chain.cu): whether the bits are the same,
and what one launch after another costs each way, on a stream and in a recorded graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from apa_deploy.errors import MissingError
from apa_deploy.measure.turns import SMALLEST, ratio_interval

from .clocks import Watch
from .outcome import Outcome, State
from .programs import ask
from .time_limits import NEVER, Deadline, Limit

SAMPLES = 40
SIZES = (64 << 10, 1 << 20, 8 << 20, 64 << 20)  # bytes: where a launch is all, and where memory is
CASES = 6  # of the program
WAYS = ("stream", "graph")
_LIMIT = Limit(60, 0)


def measure_chains(
    program: Path,
    folder: Path,
    sizes: Sequence[int] = SIZES,
    samples: int = SAMPLES,
    deadline: Deadline = NEVER,
) -> Outcome:
    """Run the program and judge it.

    Raises:
        MissingError: no device, or one whose kernels have no dependent launch.
    """
    with Watch() as watch:
        answer = ask([program, str(samples), *map(str, sizes)], deadline.allow(_LIMIT), folder / "chain.log")
    device, *rows = answer.rows or [{}]
    if not answer.reason and not device.get("dependent", True):
        saw = f"compute capability {device['capability']}"
        raise MissingError(saw, "9.0 or later, for dependent launches", "Run this on such a GPU.")
    outcome = judge_chains(rows, answer.reason, len(sizes))
    outcome.facts |= {"clocks": watch.facts(), "said": answer.lines[-5:]}
    return outcome


def judge_chains(rows: Sequence[dict[str, Any]], reason: str = "", sizes: int = len(SIZES)) -> Outcome:
    """Whether all rows are there and every bit is the same; which way is faster is shown, not judged."""
    reasons = [reason] if reason else []
    if not reason and len(rows) != CASES * sizes:
        reasons.append(f"{len(rows)} of {CASES * sizes} rows")
    shown = []
    for row in rows:
        name = f"{row['kernel']} {row['element']} {row['bytes'] >> 10} KiB"
        reasons += [f"{name}: {n} runs differ ({way})" for way, n in row["differ"].items() if n]
        shown.append(_row(row))
    facts = {"verdict": _verdict(shown), "unit": "microseconds a launch", "samples": list(rows)}
    return Outcome("chain", State.FAILED if reasons else State.PASSED, "; ".join(reasons), rows=shown, facts=facts)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Medians of each way, and dependent over plain, the median of pairs of turns and its interval."""
    shown = {"kernel": row["kernel"], "element": row["element"], "KiB": row["bytes"] >> 10}
    for way in WAYS:
        plain, dependent = row["us"][way]["plain"], row["us"][way]["dependent"]
        low, middle, high = ratio_interval(dependent, plain)
        shown |= {f"plain, {way}": round(median(plain), 3), f"dependent, {way}": round(median(dependent), 3)}
        shown |= {f"dependent/plain, {way}": round(middle, 3), f"interval, {way}": [round(low, 3), round(high, 3)]}
    return shown | {"same bits": not any(row["differ"].values())}


def _verdict(rows: Sequence[dict[str, Any]]) -> str:
    """Of the recorded graph, which is how a `Session` runs engines; by stream hosts differ more than devices."""
    if not rows:
        return "nothing was measured"
    faster = sum(row["interval, graph"][1] < 1 - SMALLEST for row in rows)
    slower = sum(row["interval, graph"][0] > 1 + SMALLEST for row in rows)
    return f"in a graph dependent launches are faster in {faster} rows and slower in {slower}, of {len(rows)}"
