"""One piece of work, done in this process or in one of its own; its outputs are Polygraphy's RunResults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from polygraphy.comparator import RunResults
from pydantic import BaseModel

from .candidate import CandidateAnswer, CandidateJob, run_candidate
from .record import FailureRecord
from .reference import ReferenceAnswer, ReferenceJob, evaluate_reference

Recorded = dict[str, list[dict[str, np.ndarray]]]


class Work(BaseModel):
    """What a worker process is given: one job, where to put the results, and where to find the user's modules."""

    reference: ReferenceJob | None = None
    candidate: CandidateJob | None = None
    answer: str
    results: str
    path: list[str] = []


class Answer(BaseModel):
    """What it says: an answer, or why there is none."""

    reference: ReferenceAnswer | None = None
    candidate: CandidateAnswer | None = None
    failure: FailureRecord | None = None


def do_work(work: Work) -> tuple[Answer, Recorded]:
    """Do the work here.

    Raises:
        ApaError: it cannot be done.
    """
    if work.reference:
        reference, recorded = evaluate_reference(work.reference)
        return Answer(reference=reference), recorded
    assert work.candidate is not None
    candidate, recorded = run_candidate(work.candidate)
    return Answer(candidate=candidate), recorded


def as_results(recorded: Recorded) -> RunResults:
    """Recorded outputs in the form that `polygraphy run --load-outputs` reads."""
    results = RunResults()
    for name, iterations in recorded.items():
        results.add([{k: np.ascontiguousarray(v) for k, v in one.items()} for one in iterations], None, name)
    return results


def as_recorded(results: RunResults) -> Recorded:
    """The other way."""
    return {name: [dict(one.items()) for one in iterations] for name, iterations in results.items()}


def save_results(results: RunResults, path: Path) -> None:
    """Write RunResults as Polygraphy's JSON."""
    from ..parity.runners import quiet_polygraphy

    with quiet_polygraphy():
        results.save(str(path))


def load_results(path: Path) -> RunResults:
    """Read what `save_results` wrote."""
    from ..parity.runners import quiet_polygraphy

    with quiet_polygraphy():
        return RunResults.load(str(path))


def save_feeds(feeds: Sequence[dict[str, Any]], path: Path) -> None:
    """Write feeds in the form that `polygraphy run --load-inputs` reads."""
    from polygraphy.json import save_json

    from ..parity.runners import quiet_polygraphy

    with quiet_polygraphy():
        save_json(list(feeds), str(path), description="inputs")
