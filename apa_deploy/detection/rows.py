"""Detections among a network's outputs: where they lie, and a candidate's put into the reference's order.

| form                                    | outputs                                                        |
| --------------------------------------- | -------------------------------------------------------------- |
| ours                                    | boxes (N, K, 4), scores (N, K), labels (N, K), masks, num (N,) |
| ours, raw                               | proposals (N, R, 5), cls_score, bbox_pred                      |
| mmdeploy's                              | dets (N, K, 5): box and score; labels (N, K)                   |
| Ultralytics with nms, end-to-end YOLO   | one (N, K, 6 and more): box, score, label, and what belongs to it |
| YOLOv7 for TensorRT; any names          | boxes (N, K, 4), scores and labels (N, K), num_dets (N, 1)     |
| YOLOv7, as many rows as there are       | one (n, 7): image, box, label, score                           |
| torchvision, one image                  | boxes (n, 4), scores and labels (n,), masks (n, 1, H, W)       |

An order of their own says nothing: rows are matched by label and IoU, then compared one by one. Rows without a
counterpart that rounding may excuse (`matching`) are left out; others make the comparison fail.

Imports numpy alone: a bundle for TensorRT carries this file and `matching`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .matching import BOX_LIMIT, SCORE_LIMIT, Found, average_precision, match, overlap

Arrays = Mapping[str, np.ndarray]
# Largest absolute errors in float32: pixels, probabilities; whole numbers equal; masks are pasted where they reach
# a half.
ROW_LIMITS = {"boxes": BOX_LIMIT, "scores": SCORE_LIMIT, "labels": 0.5, "masks": 1e-2, "num": 0.5}
_SAME_PROPOSAL, _FEW = 0.95, 0.01
_COUNTS = ("num", "num_dets", "num_detections")


@dataclass(frozen=True)
class Rows:
    """What decided about rows: `nms_iou` and `score_thr` of the last NMS.

    `limits`: largest absolute errors by output, where they are not the model gate's.
    """

    nms_iou: float
    score_thr: float
    limits: dict[str, float] = field(default_factory=dict)


def are_detections(outputs: Arrays) -> bool:
    """Whether `outputs` are detections in one of the forms, or what comes before them."""
    return "proposals" in outputs or _columns(by_image(outputs)) is not None


def by_image(outputs: Arrays, images: int = 1) -> Arrays:
    """`outputs` with an axis of images first, where they have just as many rows as there are detections.

    YOLOv7's table gets the columns of Ultralytics', zeros behind the last row, and so many `images` at least.
    """
    values = list(outputs.values())
    if len(values) == 1 and _is_table(values[0]):
        rows = values[0][:, [1, 2, 3, 4, 6, 5, 0]]
        own = [rows[rows[:, 6] == i] for i in range(max(images, int(rows[:, 6].max(initial=0)) + 1))]
        most = max(map(len, own))
        return {name: np.stack([np.pad(one, ((0, most - len(one)), (0, 0))) for one in own]) for name in outputs}
    boxes = next((value for value in values if value.ndim == 2 and value.shape[1] == 4), None)
    if boxes is None or sum(value.shape == boxes.shape[:1] for value in values) != 2:
        return outputs
    return {name: value[None] for name, value in outputs.items()}


def _is_table(rows: np.ndarray) -> bool:
    if rows.ndim != 2 or rows.shape[1] != 7 or not _is_whole(rows[:, 0], 0):
        return False
    return _are_rows(rows[:, 1:5], rows[:, 6], rows[:, 5])


def _is_whole(values: np.ndarray, least: int) -> bool:
    return bool((values == np.rint(values)).all() and (values >= least).all())


def _are_rows(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> bool:
    legal = scores.dtype.kind == "f" and (scores >= 0).all() and (scores <= 1).all() and _is_whole(labels, -1)
    return bool(legal and (boxes[..., 2:] >= boxes[..., :2]).all())


def _columns(outputs: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Boxes (N, K, 4), scores and labels (N, K), of what `by_image` gives."""
    sizes = {name: value.shape for name, value in outputs.items()}
    if {"boxes", "scores", "labels"} <= set(sizes) and len(sizes["boxes"]) == 3 and sizes["boxes"][-1] == 4:
        return outputs["boxes"], outputs["scores"], outputs["labels"]
    if {"dets", "labels"} <= set(sizes) and sizes["dets"] == (*sizes["labels"], 5):
        return outputs["dets"][:, :, :4], outputs["dets"][:, :, 4], outputs["labels"]
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for value in outputs.values():
        if value.ndim == 3 and value.shape[2] >= 6:
            found.append((value[:, :, :4], value[:, :, 4], value[:, :, 5]))
        flat = [other for other in outputs.values() if other.shape == value.shape[:2]]
        if value.ndim == 3 and value.shape[2] == 4 and len(flat) == 2:
            found += [(value, flat[0], flat[1]), (value, flat[1], flat[0])]
    return next((one for one in found if _are_rows(*one)), None)


def read_detections(outputs: Arrays, image: int) -> Found:
    """The detections of one image of a batch: the rows before the first without a score."""
    outputs = by_image(outputs, image + 1)
    columns = _columns(outputs)
    assert columns is not None
    boxes, scores, labels = (value[image] for value in columns)
    here = scores > 0
    count = _count(outputs, image)
    if count is None:
        count = len(here) if here.all() else int(here.argmin())
    count = min(max(count, 0), len(scores))
    return Found(
        boxes[:count].astype(np.float64), scores[:count].astype(np.float64), labels[:count].astype(np.int64)
    )


def _count(outputs: Arrays, image: int) -> int | None:
    """How many rows count, where an output says it."""
    images = len(_scores(outputs))
    found = [outputs[name].ravel() for name in _COUNTS if name in outputs and outputs[name].size == images]
    return int(found[0][image]) if found else None


def align_rows(found: Arrays, truth: Arrays, rows: Rows, *, fail: bool = True) -> dict[str, np.ndarray]:
    """`found` in the order of `truth`, and with its values where rounding decides about a row; both `by_image`.

    `fail`: whether a row without counterpart and excuse becomes an infinite error.
    """
    ragged, truth = truth, by_image(truth)
    raw = "proposals" in truth
    places = (truth["proposals"] if raw else _scores(truth)).shape[:2]
    found, most = by_image(found, places[0]), places[1] if ragged is truth else None
    if not raw and _columns(found) is None:  # no detections at all: compared as it is
        return {name: np.asarray(found[name]) for name in truth}
    rowwise = [name for name in truth if truth[name].shape[:2] == places]
    kept = {*rowwise, *_COUNTS}
    aligned = {name: np.array(truth[name] if name in kept else found[name], found[name].dtype) for name in truth}
    for i in range(places[0]):
        left, right, is_lost = (
            _match_proposals(found, truth, i) if raw else _match_detections(found, truth, i, rows, most)
        )
        for name in rowwise:
            aligned[name][i, left] = found[name][i, right]
        if is_lost and fail:  # no number says how far off a detection is that is not there
            name = next((name for name in ("scores", "cls_score") if name in aligned), rowwise[0])
            aligned[name] = aligned[name].astype(np.float64)
            aligned[name][i, 0] = np.inf
    return aligned


def match_columns(found: Sequence[Arrays], truth: Sequence[Arrays], rows: Rows) -> dict[str, list[np.ndarray]]:
    """ "boxes" (N, K, 4) and "scores" (N, K) of each iteration in the order of `truth`, and its own where rounding
    decides about a row; float64."""
    pairs = [_columns(align_rows(one, right, rows, fail=False)) for one, right in zip(found, truth, strict=True)]
    names = enumerate(("boxes", "scores"))
    return {name: [pair[i].astype(np.float64) for pair in pairs if pair] for i, name in names}


def _scores(outputs: Arrays) -> np.ndarray:
    """(N, K)."""
    columns = _columns(by_image(outputs))
    assert columns is not None
    return columns[1]


def _match_detections(
    found: Arrays, truth: Arrays, image: int, rows: Rows, most: int | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Rows of `truth` and `found`, and whether one is lost. `most`: places; None: one for each detection."""
    right, judged = read_detections(truth, image), read_detections(found, image)
    if most is None:  # as many on both sides may be all that there is room for
        most = max(len(right.scores), len(judged.scores))
        most += len(right.scores) != len(judged.scores)
    result = match(right, judged, rows.nms_iou, rows.score_thr, most)
    miscounted = _count(found, image) not in (None, int((_scores(found)[image] > 0).sum()))
    return result.left, result.right, miscounted or not result.complete


def _match_proposals(found: Arrays, truth: Arrays, image: int) -> tuple[np.ndarray, np.ndarray, bool]:
    wanted = truth["proposals"][image]
    wanted = wanted[wanted[:, 4] > 0][:, :4].astype(np.float64)
    iou = overlap(wanted, found["proposals"][image, :, :4].astype(np.float64))
    here = iou.max(1) > _SAME_PROPOSAL
    return np.flatnonzero(here), iou.argmax(1)[here], bool((~here).mean() > _FEW)


def mean_precision(found: Sequence[Arrays], truth: Sequence[Arrays]) -> float:
    """Average precision, with the detections of `truth` for the truth; the mean over images."""
    values = [
        average_precision(read_detections(right, i), read_detections(one, i))
        for one, right in zip(found, truth, strict=True)
        for i in range(len(_scores(right)))
    ]
    return float(np.mean(values))


def is_empty(truth: Arrays) -> bool:
    """Whether nothing is detected in one of the images, so that nothing can be judged by them."""
    if "proposals" in truth:
        return False
    return any(not len(read_detections(truth, i).scores) for i in range(len(_scores(truth))))
