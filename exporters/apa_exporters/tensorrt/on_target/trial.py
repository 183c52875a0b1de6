"""Engines on the device: their outputs, what they are made of, and their latencies, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .golden import Arrays
from .refusal import FAILED, RefusalError

A_BLOCK = 10


def outputs(runner: Any, feeds: Sequence[Arrays]) -> list[Arrays]:
    """Every output for every feed, on the host, in float32. `runner`: an active `TrtRunner`."""
    return [
        {name: np.array(value).astype(np.float32) for name, value in runner.infer(feed).items()} for feed in feeds
    ]


def latencies(runners: Mapping[str, Any], runs: int) -> dict[str, list[float]]:
    """Milliseconds from launch to end, without copies, `runs` for each runner; all have inferred before.

    Blocks of a few runs alternate, and so does their order: clocks and heat change for all alike.
    """
    for runner in runners.values():
        for _ in range(runs // 8):
            _once(runner)
    samples: dict[str, list[float]] = {name: [] for name in runners}
    for block in range(-(-runs // A_BLOCK)):
        for name in list(runners)[:: -1 if block % 2 else 1]:
            samples[name] += [_once(runners[name]) for _ in range(A_BLOCK)]
    return samples


def _once(runner: Any) -> float:
    """The shapes and addresses of the last inference are still set."""
    start = time.perf_counter()
    if not runner.context.execute_async_v3(runner.stream.ptr):
        raise RefusalError("execute_async_v3 failed", "a run", "See what TensorRT printed above.", FAILED)
    runner.stream.synchronize()
    return round((time.perf_counter() - start) * 1e3, 4)
