"""Does a detector still find the same in 8 bits? Average precision on held-back pictures; float64 is the truth.

    neck's maps + white noise at the gate's least SQNR  ->  RPN, heads, NMS in float32  ->  the least precision

How much precision an error of the maps costs depends on the detector: scores that lie close together change places.
So the limit is measured on the same pictures, with noise as strong as the gate of the maps lets pass. Noise has no
direction; an error that has one, a scale or an offset of whole channels, costs more and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from ..detection.gate import cut_at
from ..detection.rows import is_empty, mean_precision
from ..errors import GateError
from ..graph.pieces import end_graph_at
from ..network import TRUTH, Network
from ..records.quantisation import DetectionQuality, QuantisationQuality
from ..tensors.signature import Feed
from .data import CalibrationData, split_rows
from .gate import QuantisationError
from .quantisation import Quantised
from .ranges import open_calibration_session

# Float64 takes up to a minute of each.
_PICTURES = 8
# Noise that leaves less than this of a detector's precision says nothing about 8 bits.
_LEAST = 0.05


def judge_detections(
    result: Quantised,
    network: Network,
    features: Sequence[str],
    held_back: CalibrationData,
    min_sqnr: float,
    libraries: Sequence[Path] = (),
) -> None:
    """Judge `result`, whose 8 bits end at `features`, and record it in its quality.

    Raises:
        QuantisationError: it finds too little of what float64 finds.
        GateError: float64 detects nothing in any of the pictures.
    """
    coded = open_calibration_session(result.proto, libraries)
    rows = list(_pictures(held_back, coded.get_inputs()[0].shape[0]))
    unmasked = network.without_masks()  # precision asks for none, and in float64 they are a fifth of the work
    truth = [unmasked.outputs(feed, TRUTH) for feed in rows]
    judged = [i for i, one in enumerate(truth) if not is_empty(one)]
    if not judged:
        raise GateError(
            f"cannot be judged: float64 detects nothing in {len(rows)} pictures held back from --calibration",
            "pictures in which it finds something",
            "Give such pictures, or pass --no-verify.",
        )
    rows, truth = [rows[i] for i in judged], [truth[i] for i in judged]
    names = [value.name for value in coded.get_outputs()]
    found = [dict(zip(names, coded.run(names, feed), strict=True)) for feed in rows]
    noisy = list(_with_noise(result.float32, features, rows, min_sqnr, libraries))
    quality = result.record.quality
    assert quality is not None
    quality.detections = DetectionQuality(
        pictures=len(rows), average_precision=mean_precision(found, truth), limit=mean_precision(noisy, truth)
    )
    quality.failures += list(_failures(quality))
    if not quality.passed:
        raise QuantisationError(quality)


def _pictures(data: CalibrationData, batch: int | str) -> Iterator[Feed]:
    """A few, evenly spread, in batches as large as the file's; `batch`: a name where any will do."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(len(data), _PICTURES)).round().astype(int))
    feed = {name: array[chosen] for name, array in data.feed.items()}
    return split_rows(feed, batch if isinstance(batch, int) else 1)


def _with_noise(
    model: onnx.ModelProto, features: Sequence[str], rows: Sequence[Feed], decibel: float, libraries: Sequence[Path]
) -> Iterator[Feed]:
    """What the float32 `model` answers where its `features` carry noise of this strength."""
    generator = np.random.default_rng(0)
    body = open_calibration_session(end_graph_at(model, features), libraries)
    names = [value.name for value in model.graph.output]
    tail = None
    for feed in rows:
        maps = dict(zip(features, body.run(list(features), feed), strict=True))
        tail = tail or open_calibration_session(cut_at(model, maps, names), libraries)
        for value in maps.values():
            strength = np.sqrt(np.mean(np.square(value, dtype=np.float64))) * 10 ** (-decibel / 20)
            value += (strength * generator.standard_normal(value.shape)).astype(np.float32)
        given = {one.name: (feed | maps)[one.name] for one in tail.get_inputs()}
        yield dict(zip(names, tail.run(names, given), strict=True))


def _failures(quality: QuantisationQuality) -> Iterator[str]:
    found, noise = quality.detections, f"noise of {quality.limits['sqnr']:g} dB in the neck's maps"
    assert found is not None
    if found.limit < _LEAST:
        yield f"detections that {noise} changes altogether (average precision {found.limit:.2f}): not to be judged"
    elif found.average_precision < found.limit:
        yield (
            f"average precision {found.average_precision:.3f} against float64's detections in {found.pictures} "
            f"pictures, limit {found.limit:.3f}, what {noise} leaves"
        )
