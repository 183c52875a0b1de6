"""Plugin or decomposed: a pure function of latencies and parity verdicts.

A plugin is one kernel, and a wall to fusion; the decomposed form fuses into the convolution. Which is faster
depends on the network and the GPU, so both are measured. The plugin must win by more than noise, because without
it the engine needs no library of ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .recipe import DECOMPOSED, PLUGIN

# A gain below this is not worth shipping a library for, however surely it was measured.
LEAST_GAIN = 0.01
# Of the normal distribution, two-sided 99 %: the interval of the median's rank has this half width in sqrt(n)/2.
_Z = 2.576


@dataclass(frozen=True)
class Candidate:
    """An engine that was built. `passed`: its parity; `samples`: latencies, in ms, measured in turns."""

    activation: str
    passed: bool
    samples: Sequence[float]


@dataclass(frozen=True)
class Choice:
    """`activation` is None where no candidate may be used."""

    activation: str | None
    reason: str


def chosen(candidates: Sequence[Candidate]) -> Choice:
    """The candidate to keep, of one or of two, and why."""
    passed = {candidate.activation: candidate for candidate in candidates if candidate.passed}
    if not passed:
        return Choice(None, "no engine passed parity: " + ", ".join(c.activation for c in candidates))
    if len(passed) == 1:
        only = next(iter(passed))
        failed = [candidate.activation for candidate in candidates if not candidate.passed]
        return Choice(only, f"{failed[0]} failed parity" if failed else "asked for")
    return _faster(passed[PLUGIN].samples, passed[DECOMPOSED].samples)


def _faster(plugin: Sequence[float], decomposed: Sequence[float]) -> Choice:
    gain = (median(decomposed) - median(plugin)) / median(decomposed)
    lowest, highest = gain_interval(plugin, decomposed)
    figures = (
        f"plugin {median(plugin):.3f} ms, decomposed {median(decomposed):.3f} ms, "
        f"gain {gain:.1%} ({lowest:.1%} to {highest:.1%})"
    )
    if lowest > LEAST_GAIN:
        return Choice(PLUGIN, f"faster beyond noise: {figures}")
    if highest < -LEAST_GAIN:
        return Choice(DECOMPOSED, f"faster beyond noise: {figures}")
    return Choice(DECOMPOSED, f"the simpler, within noise or {LEAST_GAIN:.0%}: {figures}")


def gain_interval(plugin: Sequence[float], decomposed: Sequence[float]) -> tuple[float, float]:
    """99 % confidence interval of the median relative gain of the plugin over pairs of samples.

    Free of any assumption about the distribution: the order statistics whose ranks enclose the median.
    """
    gains = sorted((d - p) / d for p, d in zip(plugin, decomposed, strict=True))
    count = len(gains)
    reach = math.ceil(_Z * math.sqrt(count) / 2)
    middle = (count - 1) / 2
    return gains[max(0, math.floor(middle - reach))], gains[min(count - 1, math.ceil(middle + reach))]
