"""Which engine to keep: a pure function of latencies and parity verdicts.

A kernel of ours is one launch, and a wall to fusion; the decomposed form fuses into the convolution. Which is
faster depends on the network and the GPU, so all are measured: as a `Session` runs them, at the profile's sizes,
in several builds, because TensorRT chooses other kernels in each. What is less simple must be faster beyond noise;
so must what is less exact, 8 bits, where the precision is open too. In int8 the plugin may write the codes itself:
a pass over memory less, for TensorRT fuses no quantisation into a plugin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from .recipe import AOT, DECOMPOSED, FP8, FP16, INT8, PLUGIN, PLUGIN_CODES
from .turns import compare_launches

SIMPLEST_FIRST = (DECOMPOSED, AOT, PLUGIN, PLUGIN_CODES)  # the last two are a library to ship
EXACT_FIRST = ("", FP16, INT8, FP8)
Build = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Candidate:
    """`passed`: built, and right, each time; `builds`: latencies in ms by size, in turns with the others'.

    `precision`: "" where all have the same.
    """

    activation: str
    passed: bool
    builds: Sequence[Build]
    precision: str = ""

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.precision} {self.activation}".lstrip()


@dataclass(frozen=True)
class Choice:
    """`name`: of the candidate, None where none may be used."""

    name: str | None
    reason: str


def choose_engine(candidates: Sequence[Candidate]) -> Choice:
    """The candidate to keep, and why."""
    passed = sorted((candidate for candidate in candidates if candidate.passed), key=_rank)
    failed = [candidate.name for candidate in candidates if not candidate.passed]
    if not passed:
        return Choice(None, f"none passed: {', '.join(failed)}")
    kept, *others = passed
    reasons = [f"{name} did not pass" for name in failed]
    for other in others:
        kept, reason = _faster(other, kept)
        reasons.append(reason)
    return Choice(kept.name, "; ".join(reasons) or "the only one tried")


def _rank(candidate: Candidate) -> tuple[int, int]:
    return EXACT_FIRST.index(candidate.precision), SIMPLEST_FIRST.index(candidate.activation)


def _faster(other: Candidate, simpler: Candidate) -> tuple[Candidate, str]:
    """One of the two, by the test of apa-bench over the builds; of a build, the mean over the sizes counts."""
    # a size that found no memory in one of the builds is in none of the comparisons
    measured = [size for size in other.builds[0] if all(size in one for one in (*other.builds, *simpler.builds))]
    pairs = zip(other.builds, simpler.builds, strict=True)
    found = compare_launches([_log_ratio(a, b, measured) for a, b in pairs])
    sizes = ", ".join(f"{size} {_ratio(other, simpler, size):.3f}" for size in measured)
    figures = (
        f"{other.name} takes {found.ratio:.3f} of {simpler.name} ({found.low:.3f} to {found.high:.3f}; "
        f"{sizes}; {len(other.builds)} builds)"
    )
    if found.verdict == "faster":
        return other, f"{other.name} is faster beyond noise: {figures}"
    finer = "simpler" if other.precision == simpler.precision else "more exact"
    known = "faster beyond noise" if found.verdict == "slower" else f"the {finer}, and no slower beyond noise"
    return simpler, f"{simpler.name} is {known}: {figures}"


def _log_ratio(ours: Build, others: Build, sizes: Sequence[str]) -> float:
    return fmean(math.log(median(ours[size]) / median(others[size])) for size in sizes)


def _ratio(ours: Candidate, others: Candidate, size: str) -> float:
    pairs = zip(ours.builds, others.builds, strict=True)
    return math.exp(fmean(math.log(median(a[size]) / median(b[size])) for a, b in pairs))
