"""What reference and candidates detect in the first pictures, for the report to draw side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from itertools import islice

import numpy as np

from ..detection.pictures import Pixels
from ..detection.rows import are_detections, read_detections
from ..detection.spec import VALID, DetectorSpec, Rpn
from ..network import TRUTH
from ..report.record import Detected
from ..tensors.signature import Feed, TensorSpec
from .data import Data, read_batches
from .work import Recorded

_PICTURES, _BOXES = 3, 12  # drawn: of a verification, and of a picture its best
_SIDE = 320  # pixels: what is embedded in the page is shrunk to it


def draw_detections(data: Data, recorded: Recorded) -> list[Detected]:
    """One entry a picture and runner, the reference first; none where the outputs are no detections."""
    if "boxes" not in recorded[TRUTH][0] and not are_detections(recorded[TRUTH][0]):
        return []
    runners = [name for name in recorded if name not in ("float32", "fp16", "bf16")]
    first = data.signature.first
    return [
        one
        for i, batch in enumerate(islice(read_batches(data), _PICTURES))
        if "proposals" not in recorded[TRUTH][i]
        for one in _of_picture(f"picture {i + 1}", batch.feed, first, {r: recorded[r][i] for r in runners})
    ]


def _of_picture(name: str, feed: Feed, spec: TensorSpec, answers: dict[str, Feed]) -> Iterator[Detected]:
    pixels = picture_of(feed, spec)
    shrink = max(1, -(-max(pixels.shape[:2]) // _SIDE))
    file = io.BytesIO()
    np.savez_compressed(file, pixels=pixels[::shrink, ::shrink])
    image = base64.b64encode(file.getvalue()).decode()
    for runner, outputs in answers.items():
        found = read_detections(outputs, 0)
        yield Detected(
            picture=name,
            runner="reference, float64" if runner == TRUTH else runner,
            image=image,
            size=(pixels.shape[1], pixels.shape[0]),
            boxes=found.boxes[:_BOXES].tolist(),
            scores=found.scores[:_BOXES].tolist(),
            labels=found.labels[:_BOXES].tolist(),
        )


def picture_of(feed: Feed, spec: TensorSpec) -> Pixels:
    """The first picture of `feed` as RGB bytes (H, W, 3): of normalised ones, as mmdet's usual numbers say."""
    image = feed[spec.name][0]
    image = image if spec.channels_last else image.transpose(1, 2, 0)
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    if VALID in feed:
        usual = DetectorSpec("", "", Rpn(), ())
        width, height = feed[VALID][0].astype(int)
        image = image[:height, :width] * np.array(usual.std) + np.array(usual.mean)
    else:
        image = image * 255
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
