"""Verdicts on detections that lie in the reference's order (`detection.rows`)."""

from __future__ import annotations

from collections.abc import Sequence

from ..detection.rows import Rows, align_rows, is_empty, mean_precision
from ..errors import GateError
from ..network import TRUTH
from ..parity.limits import precision_lost
from ..records.parity import OutputCheck
from ..report.record import Limit
from ..tensors.signature import Feed
from .record import Candidate, OutputVerdict
from .work import Recorded

_WHY = {
    "boxes": "a hundredth of a pixel",
    "scores": "a ten-thousandth of a probability",
    "labels": "labels are numbers of classes",
    "num": "rows are matched before",
    "masks": "masks are pasted where they reach a half",
}


def align_detections(recorded: Recorded, truth: Sequence[Feed], rows: Rows, fail: bool = True) -> Recorded:
    """Every runner's outputs in the order of the reference's; see `detection.rows.align_rows`.

    Raises:
        GateError: the reference detects nothing in one of the images.
    """
    if any(is_empty(one) for one in truth):
        raise GateError(
            "nothing detected by the reference: no detection against none proves nothing",
            "pictures in which it finds something",
            "Give such pictures with --inputs.",
        )
    return {
        runner: [align_rows(one, right, rows, fail=fail) for one, right in zip(runs, truth, strict=True)]
        for runner, runs in recorded.items()
    }


def detection_verdicts(checks: Sequence[OutputCheck], rows: Rows) -> list[OutputVerdict]:
    """Aligned float32 outputs: boxes to a hundredth of a pixel, scores to 1e-4, labels equal, masks as a limit."""
    found = []
    for check in checks:
        limit = Limit(name="max_abs", value=rows.limits[check.name], derivation=_WHY[check.name])
        broken = [] if check.max_abs <= limit.value else [f"max_abs {check.max_abs:.2g}, limit {limit.value:.2g}"]
        found.append(_verdict(check, limit, broken))
    return found


def precision_verdicts(
    candidate: Candidate,
    made: Recorded,
    reference: Recorded,
    checks: Sequence[OutputCheck],
    accepted: float | None = None,
) -> list[OutputVerdict]:
    """Average precision with float64's detections for the truth, of a half type against what storing loses.

    Args:
        accepted: the loss that the user accepts instead.
    """
    truth = reference[TRUTH]
    least, derivation = 1 - (accepted or 0.0), "a loss accepted by --max-rel"
    if accepted is None:
        least = 1 - precision_lost(mean_precision(reference.get(candidate.precision, truth), truth))
        derivation = f"four times what storing in {candidate.precision} loses"
    limit = Limit(name="average_precision", value=least, derivation=derivation)
    found = []
    for runner, runs in made.items():
        reached = mean_precision(runs, truth)
        broken = [] if reached >= least else [f"average precision {reached:.4f}, wanted {least:.4f}"]
        check = next(c for c in checks if c.runner == runner and c.name == "scores")
        text = f"{runner}: average precision {reached:.4f} against the float64 detections"
        candidate.notices += [] if text in candidate.notices else [text]
        lost = {"max_abs": 1 - reached, "max_rel": 1 - reached, "limit": 1 - least}  # rows have no order to compare
        found.append(_verdict(check.model_copy(update=lost), limit, broken))
    return found


def _verdict(check: OutputCheck, limit: Limit, broken: list[str]) -> OutputVerdict:
    return OutputVerdict(check=check.model_copy(update={"passed": not broken}), limits=[limit], failures=broken)
