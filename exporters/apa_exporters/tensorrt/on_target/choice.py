"""Which activation to keep: a pure function of latencies and parity verdicts.

A kernel of ours is one launch, and a wall to fusion; the decomposed form fuses into the convolution. Which is
faster depends on the network and the GPU, so all are measured: as a `Session` runs them, at the profile's sizes,
in several builds, because TensorRT chooses other kernels in each. What is less simple must be faster beyond noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from .recipe import AOT, DECOMPOSED, PLUGIN
from .turns import compare_launches

SIMPLEST_FIRST = (DECOMPOSED, AOT, PLUGIN)  # the last is a library to ship
Build = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Candidate:
    """`passed`: built, and right, each time; `builds`: latencies in ms by size, in turns with the others'."""

    activation: str
    passed: bool
    builds: Sequence[Build]


@dataclass(frozen=True)
class Choice:
    """`activation` is None where no candidate may be used."""

    activation: str | None
    reason: str


def choose_engine(candidates: Sequence[Candidate]) -> Choice:
    """The candidate to keep, and why."""
    passed = {candidate.activation: candidate for candidate in candidates if candidate.passed}
    failed = [candidate.activation for candidate in candidates if not candidate.passed]
    if not passed:
        return Choice(None, f"none passed: {', '.join(failed)}")
    kept, *others = [passed[name] for name in SIMPLEST_FIRST if name in passed]
    reasons = [f"{name} did not pass" for name in failed]
    for other in others:
        kept, reason = _faster(other, kept)
        reasons.append(reason)
    return Choice(kept.activation, "; ".join(reasons) or "the only one tried")


def _faster(other: Candidate, simpler: Candidate) -> tuple[Candidate, str]:
    """One of the two, by the test of apa-bench over the builds; of a build, the mean over the sizes counts."""
    found = compare_launches([_log_ratio(a, b) for a, b in zip(other.builds, simpler.builds, strict=True)])
    sizes = ", ".join(f"{size} {_ratio(other, simpler, size):.3f}" for size in other.builds[0])
    figures = (
        f"{other.activation} takes {found.ratio:.3f} of {simpler.activation} ({found.low:.3f} to {found.high:.3f}; "
        f"{sizes}; {len(other.builds)} builds)"
    )
    if found.verdict == "faster":
        return other, f"{other.activation} is faster beyond noise: {figures}"
    known = "faster beyond noise" if found.verdict == "slower" else "the simpler, and no slower beyond noise"
    return simpler, f"{simpler.activation} is {known}: {figures}"


def _log_ratio(ours: Build, others: Build) -> float:
    return fmean(math.log(median(ours[size]) / median(others[size])) for size in ours)


def _ratio(ours: Candidate, others: Candidate, size: str) -> float:
    pairs = zip(ours.builds, others.builds, strict=True)
    return math.exp(fmean(math.log(median(a[size]) / median(b[size])) for a, b in pairs))
