"""Intervals of percentiles, and whether two artifacts differ at all.

Samples of one turn are not independent (they share frequency, neighbours, caches), and two processes of the same
file differ by a percent or so for as long as they live (where the loader put what). So:

Intervals: whole turns are drawn with replacement, not samples: a cluster bootstrap.

The test: turns of the two artifacts alternate, so each pair meets the same machine; the logarithm of the ratio of
their medians is free of drift. Of each launch (a fresh process for each artifact) the median over its pairs is one
number, free of outliers. The launches are independent, and Student's t-test asks whether their mean is 0.
It is exact for normal differences and says "different" too seldom, not too often, for heavier tails.
"Faster" and "slower" are said where p < 0.01 and the times differ by a percent or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..records.benchmark import Interval
from .turns import pair_ratios

LEVEL = 0.01
SMALLEST = 0.01  # a ratio nearer to 1 is not called a difference, however sure it is
_DRAWS = 500
_WIDEST = 50.0  # of the logarithm of a ratio: two launches may know nothing, but exp must not overflow
_QUANTILES = (0.5, 0.9, 0.99)

Turns = Sequence[Sequence[float]]


def percentiles(turns: Turns, seed: int = 0) -> tuple[Interval, Interval, Interval, Interval]:
    """p50, p90, p99 and the mean of all samples, with 95 % intervals; a single turn gives none."""
    arrays = [np.asarray(turn) for turn in turns]
    if len(arrays) == 1:
        p50, p90, p99, mean = (Interval(value=float(value)) for value in _figures(arrays))
        return p50, p90, p99, mean
    generator = np.random.default_rng(seed)
    draws = [generator.integers(len(arrays), size=len(arrays)) for _ in range(_DRAWS)]
    drawn = np.array([_figures([arrays[i] for i in draw]) for draw in draws])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    p50, p90, p99, mean = (
        Interval(value=float(v), low=float(a), high=float(b))
        for v, a, b in zip(_figures(arrays), low, high, strict=True)
    )
    return p50, p90, p99, mean


def _figures(arrays: Sequence[np.ndarray]) -> np.ndarray:
    samples = np.concatenate(arrays)
    return np.append(np.quantile(samples, _QUANTILES), samples.mean())


def compare_turns(turns: Turns, baseline: Turns, launches: int) -> tuple[Interval, float, str]:
    """The ratio of times with its 99 % interval, the p-value, and the verdict in words.

    Args:
        turns: of the artifact, in order, as many in each launch; `baseline`: those that they alternated with.
        launches: how many there were, at least 2.
    """
    medians = [[float(np.median(turn)) for turn in each] for each in (turns, baseline)]
    pairs = [math.log(ratio) for ratio in pair_ratios(*medians)]
    logs = np.median(np.reshape(pairs, (launches, -1)), axis=1)
    mean, error, freedom = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(launches), launches - 1
    p = two_sided(mean / error, freedom) if error > 0 else float(mean == 0)
    reach = min(t_quantile(1 - LEVEL / 2, freedom) * error, _WIDEST)
    ratio = Interval(value=math.exp(mean), low=math.exp(mean - reach), high=math.exp(mean + reach))
    return ratio, p, _verdict(ratio.value, p)


def _verdict(ratio: float, p: float) -> str:
    if p >= LEVEL or abs(ratio - 1) < SMALLEST:
        return "no difference"
    return "faster" if ratio < 1 else "slower"


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
