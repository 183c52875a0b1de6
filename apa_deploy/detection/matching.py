"""Detections against the float64 ones: matched one by one, and as average precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
SAME_BOX = 0.9  # least IoU of a detection and its counterpart
BOX_LIMIT, SCORE_LIMIT = 1e-2, 1e-4  # pixels; probability
# A flip of NMS is rare: of many detections without a counterpart something else is the reason.
_MOST_EXCUSED = 0.05


@dataclass(frozen=True)
class Found:
    """Detections of one image: boxes (n, 4), scores (n,), labels (n,), by falling score."""

    boxes: Float64
    scores: Float64
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """`wanted`, `found`: how many; `excused`: without a counterpart within the margin of NMS; the rest fails."""

    wanted: int
    found: int
    matched: int
    excused: int
    box_error: float
    score_error: float
    left: NDArray[np.int_]  # rows of the wanted ones that have a counterpart
    right: NDArray[np.int_]  # their counterparts' rows

    @property
    def complete(self) -> bool:
        """Whether each detection has its counterpart or, few of them, an excuse."""
        alone = self.wanted + self.found - 2 * self.matched
        few = self.excused <= max(2, _MOST_EXCUSED * (self.wanted + self.found))
        return self.matched > 0 and alone == self.excused and few

    @property
    def passed(self) -> bool:
        return self.complete and self.box_error <= BOX_LIMIT and self.score_error <= SCORE_LIMIT


def overlap(one: Float64, others: Float64) -> Float64:
    """Intersection over union of boxes (n, 4) and (m, 4); 0 where neither has an area."""
    low, high = np.maximum(one[:, None, :2], others[None, :, :2]), np.minimum(one[:, None, 2:], others[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (one, others)]
    union = areas[0][:, None] + areas[1][None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def match(wanted: Found, found: Found, nms_iou: float, score_thr: float, most: int) -> Match:
    """Pair detections of the same label greedily, best score first, and look for excuses for the rest."""
    iou = overlap(wanted.boxes, found.boxes) * (wanted.labels[:, None] == found.labels[None])
    free = np.ones(len(found.scores), bool)
    pairs: list[tuple[int, int]] = []
    for i in range(len(wanted.scores)):
        candidates = np.where(free, iou[i], 0)
        if len(candidates) and candidates.max() > SAME_BOX:
            j = int(candidates.argmax())
            free[j] = False
            pairs.append((i, j))
    left, right = (np.array([p[k] for p in pairs], int) for k in (0, 1))
    box = np.abs(wanted.boxes[left] - found.boxes[right])
    score = np.abs(wanted.scores[left] - found.scores[right])
    alone = [Found(s.boxes[m], s.scores[m], s.labels[m]) for s, m in ((wanted, ~_in(left, wanted)), (found, free))]
    return Match(
        wanted=len(wanted.scores),
        found=len(found.scores),
        matched=len(pairs),
        excused=sum(_excuse(alone, wanted, found, nms_iou, score_thr, most)),
        box_error=float(box.max()) if len(pairs) else 0.0,
        score_error=float(score.max()) if len(pairs) else 0.0,
        left=left,
        right=right,
    )


def _in(index: NDArray[np.int_], found: Found) -> NDArray[np.bool_]:
    here = np.zeros(len(found.scores), bool)
    here[index] = True
    return here


def _excuse(alone: list[Found], wanted: Found, found: Found, iou: float, thr: float, most: int) -> list[bool]:
    """For each detection without a counterpart whether rounding can have decided about it.

    Its score lies at the threshold or at the last place's; or a box of its label lies at NMS's threshold, as far as
    `BOX_LIMIT` pixels move an IoU; or it was suppressed, or is no more, because of another that is excused so.
    """
    full = [s.scores[-1] for s in (wanted, found) if len(s.scores) >= most]
    cuts = np.array([thr, *full])
    every = Found(*(np.concatenate([getattr(s, n) for s in alone]) for n in ("boxes", "scores", "labels")))
    kept = Found(*(np.concatenate([getattr(s, n) for s in (wanted, found)]) for n in ("boxes", "scores", "labels")))
    side = np.maximum((every.boxes[:, 2:] - every.boxes[:, :2]).min(1), 1e-6) if len(every.scores) else np.zeros(0)
    margin = np.minimum(4 * BOX_LIMIT / side, 0.02)[:, None]  # each of 4 edges moves the overlap by one such part
    rivals = overlap(every.boxes, kept.boxes)
    near = (np.abs(rivals - iou) <= margin) & (every.labels[:, None] == kept.labels[None])
    good = near.any(1) | (np.abs(every.scores[:, None] - cuts[None]) <= SCORE_LIMIT).any(1)
    between = (overlap(every.boxes, every.boxes) > iou - margin) & (every.labels[:, None] == every.labels[None])
    for _ in range(len(good)):
        wider = good | (between & good[None]).any(1)
        if (wider == good).all():
            break
        good = wider
    return [bool(one) for one in good]


def average_precision(wanted: Found, found: Found) -> float:
    """COCO's mean over IoU .5 to .95 and over the labels of `wanted`, which stand for the truth; 0 to 1."""
    labels = np.unique(wanted.labels)
    values = [
        _precision(_of(wanted, label), _of(found, label), threshold)
        for label in labels
        for threshold in np.arange(0.5, 1.0, 0.05)
    ]
    return float(np.mean(values)) if values else 0.0


def _of(found: Found, label: int) -> Found:
    here = found.labels == label
    return Found(found.boxes[here], found.scores[here], found.labels[here])


def _precision(wanted: Found, found: Found, threshold: float) -> float:
    iou, free = overlap(found.boxes, wanted.boxes), np.ones(len(wanted.scores), bool)
    hits = np.zeros(len(found.scores))
    for i in range(len(found.scores)):
        candidates = np.where(free, iou[i], 0)
        j = int(candidates.argmax())
        if candidates[j] >= threshold:
            free[j], hits[i] = False, 1
    right = hits.cumsum()
    precision = right / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = right / len(wanted.scores)
    places = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.concatenate([precision, [0.0]])[np.minimum(places, len(precision))].mean())
