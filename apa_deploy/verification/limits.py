"""What an output must keep to: a limit derived from its number type, or one that the user gives.

max_rel        largest error over the largest |reference|: the model gate's (`parity.limits`)
min_agreement  same first class: all samples but those nearer to a tie than twice the error that max_rel allows
min_cosine     to the reference: `parity.limits`
gain, offset   of the whole output, and the gain of each channel: `parity.gain`
max_abs        only where given
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..graph.precision import UNIT_ROUNDOFF
from ..parity.limits import CEILING, FACTOR, ONE_LAYER, ROUNDINGS, floor_of, model_limit
from ..records.parity import OutputCheck
from ..report.record import Limit
from .record import OutputVerdict

_GAIN = "what the roundings of the baseline leave of a sum that has no direction (docs/verify.md)"


@dataclass(frozen=True)
class Given:
    """Limits that the user sets; None: derived."""

    max_abs: float | None = None
    max_rel: float | None = None
    min_agreement: float | None = None


def check_derivable(precision: str, given: Given, name: str) -> None:
    """Refuse a type for which no limit follows from anything.

    Raises:
        InputError: "int8" without --max-rel.
    """
    if precision not in UNIT_ROUNDOFF and given.max_rel is None:
        wanted = "--max-rel (calibration decides what int8 loses; no limit follows from the type)"
        raise InputError(f"{name} computes in {precision}", wanted, "Give the error that you accept.")


def verdict(check: OutputCheck, references: Sequence[np.ndarray], precision: str, given: Given) -> OutputVerdict:
    """The check with its limits. `references`: the output in float64, an array a batch."""
    rel = _max_rel(check, precision, given)
    limits = [rel]
    if given.max_rel is None and check.min_cosine is not None:
        derivation = "noise of the ceiling's size leaves it, at most 0.999"
        limits.append(Limit(name="min_cosine", value=check.min_cosine, derivation=derivation))
        limits += [
            Limit(name=one.what, value=one.high, derivation=f"from {one.low:.2g}, {_GAIN}") for one in check.gains
        ]
    if given.max_abs is not None:
        limits.append(Limit(name="max_abs", value=given.max_abs, derivation="given by --max-abs"))
    if check.top1_agreement is not None:
        limits.append(_agreement(references, rel.value, given))
    failures = [reason for limit in limits if (reason := _explain_broken(check, limit))]
    updated = check.model_copy(update={"limit": rel.value, "passed": not failures})
    return OutputVerdict(check=updated, limits=limits, failures=failures)


def _max_rel(check: OutputCheck, precision: str, given: Given) -> Limit:
    if given.max_rel is not None:
        return Limit(name="max_rel", value=given.max_rel, derivation="given by --max-rel")
    floor, half = floor_of(precision), precision != "fp32"
    baseline = check.stored_max_rel if half and check.stored_max_rel is not None else check.torch_float32_max_rel
    what = (
        f"the error of float64 that stores its values in {precision}"
        if half
        else "the reference's own float32 error"
    )
    roundings = (
        f"{ONE_LAYER} x {UNIT_ROUNDOFF[precision]:.2g}, one layer's roundings" if half else f"{ROUNDINGS} x 2^-24"
    )
    most = f"at most {CEILING[precision]:g}"
    derivation = f"max({FACTOR:g} x {baseline:.2g}, {what}; {floor:.2g} = {roundings}), {most}"
    return Limit(name="max_rel", value=model_limit(baseline, precision), derivation=derivation)


def _agreement(references: Sequence[np.ndarray], allowed: float, given: Given) -> Limit:
    if given.min_agreement is not None:
        return Limit(name="min_agreement", value=given.min_agreement, derivation="given by --min-agreement")
    decided = [_margins(y) > 2 * allowed * np.abs(y).max() for y in references]
    count, total = int(sum(d.sum() for d in decided)), sum(len(d) for d in decided)
    derivation = f"{count} of {total} samples are further from a tie than twice what max_rel allows"
    return Limit(name="min_agreement", value=count / total, derivation=derivation)


def _margins(y: np.ndarray) -> np.ndarray:
    """By how much the first class leads, a sample."""
    top = np.partition(y.astype(np.float64), y.shape[1] - 2, axis=1)[:, -2:]
    margins: np.ndarray = top[:, 1] - top[:, 0]
    return margins


def _explain_broken(check: OutputCheck, limit: Limit) -> str:
    """Why the check breaks the limit, or "". NaN breaks every limit."""
    if limit.name == "min_agreement":
        share = check.top1_agreement or 0.0
        return "" if share >= limit.value else f"{share:.2%} same first class, wanted {limit.value:.2%}"
    gain = next((one for one in check.gains if one.what == limit.name), None)
    if gain:
        return "" if gain.passed else str(gain)
    if limit.name == "min_cosine":
        return "" if check.cosine >= limit.value else f"cosine {check.cosine:.6f}, wanted {limit.value:g} or more"
    value = check.max_rel if limit.name == "max_rel" else check.max_abs
    return "" if value <= limit.value else f"{limit.name} {value:.2g}, limit {limit.value:.2g}"
