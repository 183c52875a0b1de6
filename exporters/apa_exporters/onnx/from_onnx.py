"""What is said of an export from somebody's own file: how much faster it is, and which batches an engine gets."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apa_deploy.network import Network
from apa_deploy.runtimes.ort_session import open_session
from apa_deploy.tensors.inputs import seeded_feeds

from ..options import BATCHES

# The speed-up is a hint, not a benchmark: the median of so many turns each, small networks taking more.
_WARM_UP, _TURNS, _MOST_TURNS, _SECONDS = 2, 7, 100, 2.0


def batches_of(network: Network, wanted: tuple[int, int, int]) -> tuple[int, int, int]:
    """An engine's batches, where the usual are `wanted`: a file of a fixed batch says it itself.

    A contradiction to what the user chose is refused when the graph is made.
    """
    fixed = network.signature.first.fixed_batch
    return (fixed, fixed, fixed) if fixed and wanted == BATCHES else wanted


@dataclass(frozen=True)
class SpeedUp:
    """Milliseconds a run in ONNX Runtime on this machine: the original, and what was made of it."""

    original: float
    exported: float

    def __str__(self) -> str:
        ratio = self.original / self.exported
        return f"ONNX Runtime: {self.original:.1f} ms before, {self.exported:.1f} ms now: {ratio:.2f} times as fast"


def measure_speed_up(before: Any, network: Network, out: Path, batch: int | None, library: Path | None) -> SpeedUp:
    """Run the session `before` and the file `out` by turns, one pool of threads at a time idle."""
    feed = seeded_feeds(network.signature, batch or 2)[0]
    sessions = [before, open_session(out, library=library)]
    samples: list[list[float]] = [[], []]
    begin = time.perf_counter()
    for turn in range(_WARM_UP + _MOST_TURNS):
        if turn >= _WARM_UP + _TURNS and time.perf_counter() - begin > _SECONDS:
            break
        for session, times in zip(sessions, samples, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
    return SpeedUp(*(statistics.median(times[_WARM_UP:]) for times in samples))
