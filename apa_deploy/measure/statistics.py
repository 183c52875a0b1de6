"""Intervals of percentiles, and whether two artifacts differ at all.

Samples of one turn are not independent: they share frequency, neighbours and caches. Two processes of the same file
differ by about a percent as long as they live, because their memory is laid out differently. So:

Intervals: whole turns are drawn with replacement, not samples: a cluster bootstrap.

The test: turns of the two artifacts alternate, so each pair meets the same machine; the logarithm of the ratio of
their medians is free of drift. Of each launch (a fresh process for each artifact) the median over its pairs is one
number, free of outliers. The launches are independent: `turns.compare_launches` judges them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..records.benchmark import Interval
from .turns import compare_launches, pair_ratios

_DRAWS = 500
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
    found = compare_launches([float(log) for log in logs])
    return Interval(value=found.ratio, low=found.low, high=found.high), found.p, found.verdict
