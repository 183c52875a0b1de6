"""What is said of an export from somebody's own file: how much faster it is, and which batches an engine gets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from apa_deploy.measure.turns import take_turns, time_ms
from apa_deploy.network import Network
from apa_deploy.runtimes.ort_session import open_session
from apa_deploy.tensors.inputs import seeded_feeds

from ..options import BATCHES

# The speed-up is a hint, not a benchmark: the median of so many turns each, small networks taking more.
_WARM_UP, _TURNS, _MOST_TURNS, _SECONDS = 2, 7, 100, 2.0


def batches_of(network: Network, wanted: tuple[int, int, int]) -> tuple[int, int, int]:
    """An engine's batches, where the usual are `wanted`: a file of a fixed batch says it itself; of detectors one.

    A contradiction to what the user chose is refused when the graph is made.
    """
    fixed = network.signature.first.fixed_batch or (1 if network.signature.photograph else None)
    return (fixed, fixed, fixed) if fixed and wanted == BATCHES else wanted


def measure_speed_up(before: Any, network: Network, out: Path, batch: int | None, library: Path | None) -> str:
    """Run the session `before` and the file `out` by turns, one pool of threads at a time idle; in words."""
    feed = seeded_feeds(network.signature, batch or 2)[0]
    sessions = {"before": before, "now": open_session(out, library=library)}
    timers = {name: partial(time_ms, partial(session.run, None, feed)) for name, session in sessions.items()}
    samples = take_turns(timers, _MOST_TURNS, warm_up=_WARM_UP, least=_TURNS, seconds=_SECONDS)
    original, exported = (median(one) for one in samples.values())
    ratio = original / exported
    return f"ONNX Runtime: {original:.1f} ms before, {exported:.1f} ms now: {ratio:.2f} times as fast"
