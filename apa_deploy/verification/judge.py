"""Hold what a candidate gave against what the reference gave: names, shapes, the model gate, accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..detection.rows import are_detections
from ..errors import InputError
from ..graph.precision import UNIT_ROUNDOFF
from ..network import FLOAT32, FLOAT32_AGAIN, OWN, TRUTH
from ..parity.model_gate import check_results, explain_no_verdict
from ..report.record import Accuracy
from .accuracy import accuracies
from .detections import align_detections, detection_verdicts, precision_verdicts
from .limits import Given, verdict
from .record import Candidate, OutputVerdict
from .reference import ReferenceAnswer, UnjudgeableError
from .work import Recorded, as_results


def judge_outputs(
    candidate: Candidate,
    made: Recorded,
    reference: Recorded,
    given: Given,
    answer: ReferenceAnswer,
) -> list[OutputVerdict]:
    """A verdict for each runner and output; `made` is aligned with `reference`, the outputs of `answer`."""
    rows, precision = answer.rows, candidate.precision
    stored = [precision] if precision in reference else []
    if answer.half and precision == "fp32":  # as a float32 export of such a file is judged
        precision, stored = answer.half, [OWN]
    baselines = [FLOAT32, FLOAT32_AGAIN, *stored]
    if rows and are_detections(reference[TRUTH][0]):
        raw, truth = (made, reference), reference[TRUTH]
        made = align_detections(made, truth, rows)
        reference = align_detections(reference, truth, rows, fail=False)
        coded = candidate.precision not in UNIT_ROUNDOFF and "proposals" not in truth[0]
        if coded or ((rows.limits or (stored and "proposals" not in truth[0])) and given == Given()):
            results = as_results(reference | made)
            checks = check_results(results, TRUTH, baselines[:2], list(made), "fp32")
            by_precision = bool(stored) or coded
            return (
                precision_verdicts(candidate, *raw, checks, given.max_rel)
                if by_precision
                else detection_verdicts(checks, rows)
            )
    results = as_results(reference | made)
    checks = check_results(results, TRUTH, baselines, list(made), precision if stored else "fp32")
    if given.max_rel is None and (reason := explain_no_verdict(checks, answer.half)):
        raise UnjudgeableError(reason, "a reference that shows the difference between a right and a wrong copy")
    return [verdict(c, [one[c.name] for one in reference[TRUTH]], precision, given) for c in checks]


def align(made: Recorded, reference: Recorded, candidate: Candidate) -> Recorded:
    """`made` with the reference's output names only; one output each may differ in name.

    Raises:
        InputError: an output is missing, or has another shape.
    """
    truth = reference[TRUTH]
    return {
        runner: [_align(one, right, candidate) for one, right in zip(iterations, truth, strict=True)]
        for runner, iterations in made.items()
    }


def _align(one: dict[str, np.ndarray], right: dict[str, np.ndarray], candidate: Candidate) -> dict[str, np.ndarray]:
    if not set(right) <= set(one):
        if len(one) != 1 or len(right) != 1:
            saw = f"{candidate.name} with outputs {', '.join(one)}"
            raise InputError(saw, f"outputs {', '.join(right)}, as of the reference", "Compare the same interface.")
        (mine,), (theirs,) = one, right
        _say_once(candidate, f"output {mine} is compared with the reference's {theirs}")
        one = {theirs: one[mine]}
    unknown = sorted(set(one) - set(right))
    if unknown:
        _say_once(candidate, f"outputs that the reference does not have, left out: {', '.join(unknown)}")
    detections = are_detections(right)  # rounding may decide about how many there are
    for name, value in right.items():
        same = (one[name].ndim == value.ndim and detections) or one[name].shape == value.shape
        if not same:
            saw = f"{candidate.name}: output {name} of shape {one[name].shape}"
            raise InputError(saw, f"{value.shape}, as of the reference", "Is it the same network?")
    return {name: one[name] for name in right}


def _say_once(candidate: Candidate, text: str) -> None:
    if text not in candidate.notices:
        candidate.notices.append(text)


def accuracy_of(recorded: Recorded, labels: Sequence[int] | None, counts: Sequence[int] | None) -> list[Accuracy]:
    """Of every runner and output that scores classes; none without labels.

    Raises:
        InputError: a label is no class of the output, or there is not one count a class.
    """
    found: list[Accuracy] = []
    for runner, iterations in recorded.items() if labels else ():
        for output in iterations[0]:
            scores = [one[output] for one in iterations]
            if scores[0].ndim == 2 and scores[0].shape[1] > 1:
                _check_counts(counts, scores[0].shape[1])
                name = runner if len(iterations[0]) == 1 else f"{runner}, {output}"
                found += accuracies(name, np.concatenate(scores), np.array(labels), counts)
    return found


def _check_counts(counts: Sequence[int] | None, classes: int) -> None:
    if counts is not None and len(counts) != classes:
        raise InputError(
            f"--class-counts with {len(counts)} entries", f"one for each of {classes} classes", "Check it."
        )
