"""Detections side by side: an order of their own says nothing, so a candidate's are put into the reference's.

    boxes, scores, labels, masks, num   matched by label and IoU, then compared row by row
    proposals, cls_score, bbox_pred     matched by the proposals' IoU

Rows without a counterpart that rounding may excuse (`detection.matching`) are left out of the comparison; others
make it fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..detection.matching import BOX_LIMIT, SCORE_LIMIT, Found, average_precision, match, overlap
from ..errors import GateError
from ..network import TRUTH
from ..parity.limits import FACTOR
from ..records.parity import OutputCheck
from ..report.record import Limit
from ..tensors.signature import Feed
from .record import Candidate, OutputVerdict
from .work import Recorded

_SAME_PROPOSAL, _FEW = 0.95, 0.01
# What half types may lose at the least where storing in the type alone loses nothing: a flip in a hundred.
_LEAST_LOSS = 0.01


def are_detections(names: Sequence[str]) -> bool:
    """Whether outputs of these names are detections, or what comes before them."""
    return {"boxes", "scores", "labels", "num"} <= set(names) or {"proposals", "cls_score"} <= set(names)


def read_detections(outputs: Feed, image: int) -> Found:
    """The detections of one image of a batch."""
    count = int(outputs["num"][image])
    boxes, scores = (outputs[name][image, :count].astype(np.float64) for name in ("boxes", "scores"))
    return Found(boxes, scores, outputs["labels"][image, :count].astype(np.int64))


def align_detections(
    recorded: Recorded, truth: Sequence[Feed], numbers: dict[str, Any], fail: bool = True
) -> Recorded:
    """Every output of every runner in the order of the reference's, and with its values where rounding decides.

    `fail`: whether a detection without counterpart and excuse becomes an infinite error.

    Raises:
        GateError: the reference detects nothing in one of the images.
    """
    if any("num" in one and not (one["num"] > 0).all() for one in truth):
        raise GateError(
            "nothing detected by the reference: no detection against none proves nothing",
            "pictures in which it finds something",
            "Give such pictures with --inputs.",
        )
    return {
        runner: [_align(one, right, numbers, fail) for one, right in zip(runs, truth, strict=True)]
        for runner, runs in recorded.items()
    }


def _align(one: Feed, truth: Feed, numbers: dict[str, Any], fail: bool) -> Feed:
    aligned = {name: value.copy() for name, value in truth.items()}
    first = "proposals" if "proposals" in truth else "boxes"
    for i in range(len(truth[first])):
        left, right, lost = _proposals(one, truth, i) if first == "proposals" else _pairs(one, truth, i, numbers)
        for name, value in aligned.items():
            if value.ndim > 1:
                value[i, left] = one[name][i, right]
        if lost and fail:  # no number says how far off a detection is that is not there
            aligned["scores" if "scores" in aligned else "cls_score"][i, 0] = np.inf
    return aligned


def _pairs(one: Feed, truth: Feed, image: int, numbers: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, bool]:
    wanted = read_detections(truth, image)
    most = truth["scores"].shape[1]
    result = match(wanted, read_detections(one, image), numbers["nms_iou"], numbers["score_thr"], most)
    return result.left, result.right, not result.complete


def _proposals(one: Feed, truth: Feed, image: int) -> tuple[np.ndarray, np.ndarray, bool]:
    wanted = truth["proposals"][image]
    wanted = wanted[wanted[:, 4] > 0][:, :4].astype(np.float64)
    iou = overlap(wanted, one["proposals"][image, :, :4].astype(np.float64))
    here = iou.max(1) > _SAME_PROPOSAL
    return np.flatnonzero(here), iou.argmax(1)[here], bool((~here).mean() > _FEW)


def detection_verdicts(checks: Sequence[OutputCheck]) -> list[OutputVerdict]:
    """Aligned float32 outputs: boxes to a hundredth of a pixel, scores to 1e-4, labels equal, masks as a limit."""
    limits = {
        "boxes": Limit(name="max_abs", value=BOX_LIMIT, derivation="a hundredth of a pixel"),
        "scores": Limit(name="max_abs", value=SCORE_LIMIT, derivation="a ten-thousandth of a probability"),
        "labels": Limit(name="max_abs", value=0.0, derivation="labels are numbers of classes"),
        "num": Limit(name="max_abs", value=0.0, derivation="rows are matched before"),
        "masks": Limit(name="max_abs", value=1e-2, derivation="masks are pasted where they reach a half"),
    }
    found = []
    for check in checks:
        limit = limits[check.name]
        broken = [] if check.max_abs <= limit.value else [f"max_abs {check.max_abs:.2g}, limit {limit.value:.2g}"]
        found.append(_verdict(check, limit, broken))
    return found


def precision_verdicts(
    candidate: Candidate, made: Recorded, reference: Recorded, checks: Sequence[OutputCheck]
) -> list[OutputVerdict]:
    """Of a half type: average precision with float64's detections for the truth, against what storing loses."""
    truth = reference[TRUTH]
    stored = _mean_precision(reference.get(candidate.precision, truth), truth)
    least = 1 - max(FACTOR * (1 - stored), _LEAST_LOSS)
    limit = Limit(
        name="average_precision", value=least, derivation=f"four times what storing in {candidate.precision} loses"
    )
    found = []
    for runner, runs in made.items():
        reached = _mean_precision(runs, truth)
        broken = [] if reached >= least else [f"average precision {reached:.4f}, wanted {least:.4f}"]
        check = next(c for c in checks if c.runner == runner and c.name == "scores")
        text = f"{runner}: average precision {reached:.4f} against the float64 detections"
        candidate.notices += [] if text in candidate.notices else [text]
        found.append(_verdict(check, limit, broken))
    return found


def _mean_precision(runs: Sequence[Feed], truth: Sequence[Feed]) -> float:
    values = [
        average_precision(read_detections(right, i), read_detections(one, i))
        for one, right in zip(runs, truth, strict=True)
        for i in range(len(right["num"]))
    ]
    return float(np.mean(values))


def _verdict(check: OutputCheck, limit: Limit, broken: list[str]) -> OutputVerdict:
    return OutputVerdict(check=check.model_copy(update={"passed": not broken}), limits=[limit], failures=broken)
