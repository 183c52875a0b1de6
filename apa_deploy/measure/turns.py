"""Time things in turns, so that whatever else the machine does meets all of them; compare them pair by pair.

Only the standard library, on Python 3.10 as well: the bundle of a TensorRT engine carries this very file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
# Of the normal distribution, two-sided 99 %: the interval of the median's rank has this half width in sqrt(n)/2.
_Z = 2.576


def time_ms(run: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


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
