"""Plugin or decomposed: a pure function of latencies and parity verdicts.

A plugin is one kernel, and a wall to fusion; the decomposed form fuses into the convolution. Which is faster
depends on the network and the GPU, so both are measured. The plugin must win by more than noise, because without
it the engine needs no library of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .recipe import DECOMPOSED, PLUGIN
from .turns import ratio_interval

# A gain below this is not worth shipping a library for, however surely it was measured.
LEAST_GAIN = 0.01


@dataclass(frozen=True)
class Candidate:
    """An engine. `passed`: built, and right; `samples`: latencies, in ms, measured in turns."""

    activation: str
    passed: bool
    samples: Sequence[float]


@dataclass(frozen=True)
class Choice:
    """`activation` is None where no candidate may be used."""

    activation: str | None
    reason: str


def choose_engine(candidates: Sequence[Candidate]) -> Choice:
    """The candidate to keep, of one or of two, and why."""
    passed = {candidate.activation: candidate for candidate in candidates if candidate.passed}
    if not passed:
        return Choice(None, "none passed: " + ", ".join(candidate.activation for candidate in candidates))
    if len(passed) == 1:
        only = next(iter(passed))
        failed = [candidate.activation for candidate in candidates if not candidate.passed]
        return Choice(only, f"{failed[0]} did not pass" if failed else "the only one tried")
    return _faster(passed[PLUGIN].samples, passed[DECOMPOSED].samples)


def _faster(plugin: Sequence[float], decomposed: Sequence[float]) -> Choice:
    lowest, gain, highest = gain_interval(plugin, decomposed)
    figures = (
        f"plugin {median(plugin):.3f} ms, decomposed {median(decomposed):.3f} ms, "
        f"gain of the plugin {gain:.1%} ({lowest:.1%} to {highest:.1%})"
    )
    if lowest > LEAST_GAIN:
        return Choice(PLUGIN, f"faster beyond noise: {figures}")
    if highest < -LEAST_GAIN:
        return Choice(DECOMPOSED, f"faster beyond noise: {figures}")
    return Choice(DECOMPOSED, f"the simpler, within noise or {LEAST_GAIN:.0%}: {figures}")


def gain_interval(plugin: Sequence[float], decomposed: Sequence[float]) -> tuple[float, float, float]:
    """The median relative gain of the plugin over pairs of samples, between the ends of its 99 % interval."""
    lowest, middle, highest = ratio_interval(plugin, decomposed)
    return 1 - highest, 1 - middle, 1 - lowest
