"""Detections among a network's outputs: where they lie, and a candidate's put into the reference's order.

| form                                    | outputs                                                        |
| --------------------------------------- | -------------------------------------------------------------- |
| ours                                    | boxes (N, K, 4), scores (N, K), labels (N, K), masks, num (N,) |
| ours, raw                               | proposals (N, R, 5), cls_score, bbox_pred                      |
| mmdeploy's                              | dets (N, K, 5): box and score; labels (N, K)                   |
| Ultralytics with nms, end-to-end YOLO   | one (N, K, 6 and more): box, score, label, and what belongs to it |

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
    return "proposals" in outputs or _columns(outputs) is not None


def _columns(outputs: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Boxes (N, K, 4), scores and labels (N, K)."""
    sizes = {name: value.shape for name, value in outputs.items()}
    if {"boxes", "scores", "labels"} <= set(sizes) and len(sizes["boxes"]) == 3 and sizes["boxes"][-1] == 4:
        return outputs["boxes"], outputs["scores"], outputs["labels"]
    if {"dets", "labels"} <= set(sizes) and sizes["dets"] == (*sizes["labels"], 5):
        return outputs["dets"][:, :, :4], outputs["dets"][:, :, 4], outputs["labels"]
    for value in outputs.values():
        if value.ndim == 3 and value.shape[2] >= 6 and value.shape[1]:
            boxes, scores, labels = value[:, :, :4], value[:, :, 4], value[:, :, 5]
            numbers = (labels == np.rint(labels)).all() and (labels >= -1).all()
            if numbers and (scores >= 0).all() and (scores <= 1).all() and (boxes[..., 2:] >= boxes[..., :2]).all():
                return boxes, scores, labels
    return None


def read_detections(outputs: Arrays, image: int) -> Found:
    """The detections of one image of a batch: the rows before the first without a score."""
    columns = _columns(outputs)
    assert columns is not None
    boxes, scores, labels = (value[image] for value in columns)
    here = scores > 0
    count = int(outputs["num"][image]) if "num" in outputs else len(here) if here.all() else int(here.argmin())
    count = min(max(count, 0), len(scores))
    return Found(
        boxes[:count].astype(np.float64), scores[:count].astype(np.float64), labels[:count].astype(np.int64)
    )


def align_rows(found: Arrays, truth: Arrays, rows: Rows, *, fail: bool = True) -> dict[str, np.ndarray]:
    """`found` in the order of `truth`, and with its values where rounding decides about a row.

    `fail`: whether a row without counterpart and excuse becomes an infinite error.
    """
    key = "proposals" if "proposals" in truth else _table(truth)
    if key != "proposals" and _columns(found) is None:  # no detections at all: compared as it is
        return {name: np.asarray(found[name]) for name in truth}
    places = truth[key].shape[:2]
    aligned = {name: np.array(truth[name] if name == "num" else found[name]) for name in truth}
    for i in range(places[0]):
        pair = _match_proposals(found, truth, i) if key == "proposals" else _match_detections(found, truth, i, rows)
        left, right, is_lost = pair
        for name in aligned:
            if truth[name].shape[:2] == places:
                aligned[name][i] = truth[name][i]
                aligned[name][i, left] = found[name][i, right]
        if is_lost and fail:  # no number says how far off a detection is that is not there
            name = next(n for n in ("scores", "cls_score", key) if n in aligned)
            aligned[name] = aligned[name].astype(np.float64)
            aligned[name][i, 0] = np.inf
    return aligned


def match_columns(found: Sequence[Arrays], truth: Sequence[Arrays], rows: Rows) -> dict[str, list[np.ndarray]]:
    """ "boxes" (N, K, 4) and "scores" (N, K) of each iteration in the order of `truth`, and its own where rounding
    decides about a row; float64."""
    pairs = [_columns(align_rows(one, right, rows, fail=False)) for one, right in zip(found, truth, strict=True)]
    names = enumerate(("boxes", "scores"))
    return {name: [pair[i].astype(np.float64) for pair in pairs if pair] for i, name in names}


def _table(outputs: Arrays) -> str:
    """An output with a row for each detection."""
    names = [name for name in ("boxes", "dets") if name in outputs]
    return (names or [n for n, v in outputs.items() if v.ndim == 3 and _columns({n: v}) is not None])[0]


def _match_detections(found: Arrays, truth: Arrays, image: int, rows: Rows) -> tuple[np.ndarray, np.ndarray, bool]:
    places = truth[_table(truth)].shape[1]
    right, judged = read_detections(truth, image), read_detections(found, image)
    result = match(right, judged, rows.nms_iou, rows.score_thr, places)
    miscounted = "num" in found and int(found["num"][image]) != int((found["scores"][image] > 0).sum())
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
        for i in range(len(right[_table(right)]))
    ]
    return float(np.mean(values))


def is_empty(truth: Arrays) -> bool:
    """Whether nothing is detected in one of the images, so that nothing can be judged by them."""
    if "proposals" in truth:
        return False
    return any(not len(read_detections(truth, i).scores) for i in range(len(truth[_table(truth)])))
