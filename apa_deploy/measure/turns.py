"""Time things in turns, so that whatever else the machine does meets all of them; compare them pair by pair.

Only the standard library, on Python 3.10 as well: the bundle of a TensorRT engine carries this very file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles, stdev
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
# Of the normal distribution, two-sided 99 %: the interval of the median's rank has this half width in sqrt(n)/2.
_Z = 2.576
LEVEL = 0.01
SMALLEST = 0.01  # a ratio nearer to 1 is not called a difference, however sure it is
_WIDEST = 50.0  # of the logarithm of a ratio: two launches may know nothing, but exp must not overflow


def time_ms(run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of one call, by a clock of seconds."""
    start = clock()
    run()
    return (clock() - start) * 1e3


def take_turns(
    timers: Mapping[Name, Callable[[], float]],
    turns: int,
    *,
    warm_up: int,
    block: int = 1,
    least: int = 0,
    seconds: float = math.inf,
) -> dict[Name, list[float]]:
    """What each timer measured, in order. Their order alternates: clocks and heat change for all alike.

    Args:
        turns: of each timer, at most; a turn is `block` calls in a row.
        warm_up: calls of each before, which do not count.
        least: turns that are taken even after `seconds` have passed.
    """
    for timer in timers.values():
        for _ in range(warm_up):
            timer()
    samples: dict[Name, list[float]] = {name: [] for name in timers}
    end = time.perf_counter() + seconds
    for turn in range(turns):
        if turn >= least and time.perf_counter() > end:
            break
        for name in list(timers)[:: -1 if turn % 2 else 1]:
            samples[name] += [timers[name]() for _ in range(block)]
    return samples


def pair_ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Each sample over the one that it took turns with."""
    return [one / other for one, other in zip(ours, others, strict=True)]


def ratio_interval(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """The median of `pair_ratios`, between the ends of its 99 % interval.

    Free of any assumption about the distribution: the order statistics whose ranks enclose the median.
    """
    ratios = sorted(pair_ratios(ours, others))
    last, reach = len(ratios) - 1, _Z * math.sqrt(len(ratios)) / 2
    lowest, highest = max(0, math.floor(last / 2 - reach)), min(last, math.ceil(last / 2 + reach))
    return ratios[lowest], median(ratios), ratios[highest]


def ratio_deciles(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Tenth and ninetieth percentile of `pair_ratios`: how far a single pair may be off."""
    deciles = quantiles(pair_ratios(ours, others), n=10, method="inclusive")
    return deciles[0], deciles[-1]


@dataclass(frozen=True)
class LaunchComparison:
    """A ratio of times with the ends of its 99 % interval, the p-value, and the verdict in words."""

    ratio: float
    low: float
    high: float
    p: float
    verdict: str


def compare_launches(logs: Sequence[float]) -> LaunchComparison:
    """Judge the logarithms of ratios, one of each launch (a fresh process, or a build of an engine), at least 2.

    Launches are independent, and Student's t-test asks whether their mean is 0. It is exact for normal differences
    and says "different" too seldom, not too often, for heavier tails. "Faster" and "slower" are said where
    p < LEVEL and the times differ by SMALLEST or more.
    """
    middle, error, freedom = fmean(logs), stdev(logs) / math.sqrt(len(logs)), len(logs) - 1
    p = two_sided(middle / error, freedom) if error > 0 else float(middle == 0)
    reach = min(t_quantile(1 - LEVEL / 2, freedom) * error, _WIDEST)
    ratio = math.exp(middle)
    verdict = "no difference" if p >= LEVEL or abs(ratio - 1) < SMALLEST else "faster" if ratio < 1 else "slower"
    return LaunchComparison(ratio, math.exp(middle - reach), math.exp(middle + reach), p, verdict)


def two_sided(t: float, freedom: int) -> float:
    """The chance of a |t| at least as large under Student's distribution: for whole degrees of freedom a finite sum
    in theta = atan(t / sqrt(freedom))."""
    theta = math.atan(abs(t) / math.sqrt(freedom))
    sine, square = math.sin(theta), math.cos(theta) ** 2
    if freedom % 2:
        terms, term = 0.0, math.cos(theta)
        for k in range(1, freedom - 1, 2):
            terms, term = terms + term, term * square * (k + 1) / (k + 2)
        inside = (theta + sine * terms) * 2 / math.pi
    else:
        terms, term = 0.0, 1.0
        for k in range(0, freedom - 1, 2):
            terms, term = terms + term, term * square * (k + 1) / (k + 2)
        inside = sine * terms
    return max(0.0, 1 - inside)


def t_quantile(level: float, freedom: int) -> float:
    """The t below which Student's variable stays with the chance `level` > 1/2, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if two_sided(middle, freedom) < 2 * (1 - level) else (middle, high)
    return (low + high) / 2
