"""Engines on the device: their outputs, what they are made of, and their latencies, measured in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from .device import EngineRun
from .golden import Arrays
from .refusal import RefusalError
from .turns import take_turns, time_ms

A_BLOCK = 10
SIZES = ("least", USUAL := "usual", "largest")


def outputs(run: EngineRun, feeds: Sequence[Arrays]) -> list[Arrays]:
    """Every output for every feed, on the host, in float32."""
    return [{name: value.astype(np.float32) for name, value in run.infer(feed).items()} for feed in feeds]


def latencies(
    runs: Mapping[str, EngineRun], feed: Arrays, shapes: Mapping[str, Sequence[Sequence[int]]], count: int
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds from launch to end, without copies, by engine and size: as a `Session` runs it, recorded.

    Args:
        feed: inputs of the usual size; for the others they are repeated or cut.
        shapes: the profile; sizes that are the same are measured once.
        count: of each engine, over all sizes.
    """
    profile = dict(zip(SIZES, zip(*shapes.values(), strict=True), strict=True))
    sizes = {name: size for name, size in profile.items() if name == USUAL or size != profile[USUAL]}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    each = -(-count // len(sizes))
    for size, dims in sizes.items():
        shaped = {name: np.resize(feed[name], shape) for name, shape in zip(shapes, dims, strict=True)}
        try:
            for run in runs.values():
                run.infer(shaped)
                run.record()
        except RefusalError:
            if size == USUAL:
                raise
            continue  # too large for all of them at once in this memory: not measured
        timers = {name: partial(_time_launch, run) for name, run in runs.items()}
        for name, samples in take_turns(timers, -(-each // A_BLOCK), warm_up=each // 8, block=A_BLOCK).items():
            found[name][size] = samples
    return found


def _time_launch(run: EngineRun) -> float:
    return round(time_ms(run.launch), 4)
