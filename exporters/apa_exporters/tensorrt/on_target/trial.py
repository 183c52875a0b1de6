"""Engines on the device: their outputs, what they are made of, and their latencies, measured in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .golden import Arrays
from .refusal import FAILED, RefusalError
from .turns import take_turns, time_ms

A_BLOCK = 10


def outputs(runner: Any, feeds: Sequence[Arrays]) -> list[Arrays]:
    """Every output for every feed, on the host, in float32. `runner`: an active `TrtRunner`."""
    return [
        {name: np.array(value).astype(np.float32) for name, value in runner.infer(feed).items()} for feed in feeds
    ]


def latencies(runners: Mapping[str, Any], runs: int) -> dict[str, list[float]]:
    """Milliseconds from launch to end, without copies, `runs` for each runner; all have inferred before."""
    timers = {name: partial(_time_launch, runner) for name, runner in runners.items()}
    return take_turns(timers, -(-runs // A_BLOCK), warm_up=runs // 8, block=A_BLOCK)


def _time_launch(runner: Any) -> float:
    return round(time_ms(partial(_launch, runner)), 4)


def _launch(runner: Any) -> None:
    """The shapes and addresses of the last inference are still set."""
    if not runner.context.execute_async_v3(runner.stream.ptr):
        raise RefusalError("execute_async_v3 failed", "a run", "See what TensorRT printed above.", FAILED)
    runner.stream.synchronize()
