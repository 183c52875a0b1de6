"""Verify candidates against a reference: run all of them on the same inputs, and judge what they say.

reference -> float64, float32 [, stored in half types] --+
candidate -> its runners, each in a process of its own ---+-> gates -> Verification
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..deployment.counts import class_counts
from ..errors import ApaError, GateError, InputError, MissingError
from ..graph.precision import HALF_ELEMENT
from ..network import FLOAT32_AGAIN, TRUTH
from ..progress import notice, step
from ..records.passport import versions
from ..runtimes.providers import SESSIONS
from .candidate import CandidateJob
from .detected import draw_detections
from .isolation import run_isolated
from .judge import accuracy_of, align, judge_outputs
from .limits import Given, check_derivable
from .provenance import check_weights, describe_source
from .record import Candidate, ComparedSource, FailureRecord, Inputs, Verification
from .reference import ReferenceAnswer, ReferenceJob
from .signature import read_facts
from .source import Loading, ModelSource, SourceKind
from .work import Answer, Recorded, Work, do_work

_PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "polygraphy", "numpy")


@dataclass(frozen=True)
class Options:
    """`inputs`: an .npz file, a folder of images, "package.module:function", or None for seeded ones.

    `runners`: for ONNX files. `precision`: of candidates that cannot tell. `timeout`: seconds, each process.
    `trust_engine`: load an engine whose hash is in no passport.
    `isolate`: whether each candidate runs in a process of its own. `other_weights`: compare them all the same.
    """

    loading: Loading = field(default_factory=Loading)
    inputs: str | None = None
    batch: int | None = None
    limits: Given = field(default_factory=Given)
    per_layer: bool = False
    runners: Sequence[str] = ("onnxruntime",)
    precision: str | None = None
    class_counts: Path | None = None
    normalise: str | None = None
    resize: int | None = None
    timeout: float = 600.0
    isolate: bool = True
    other_weights: bool = False
    trust_engine: bool = False
    command: str = ""


@dataclass
class VerificationOutcome:
    """The record, and every output that it rests on, by runner."""

    verification: Verification
    recorded: Recorded
    answer: ReferenceAnswer


def verify_candidates(
    reference: ModelSource, candidates: Sequence[ModelSource], options: Options
) -> VerificationOutcome:
    """Judge every candidate; one that cannot be judged does not stop the others.

    Raises:
        InputError: the reference, the inputs or the options cannot be used.
        MissingError: the reference, or every runner of every candidate, needs what this machine lacks.
    """
    _require_runner(candidates, options.runners)
    about = [_describe(source, options) for source in candidates]
    work = Work(reference=_reference_job(reference, candidates, about, options), answer="", results="")
    with step(f"Running {reference.name} in float64"):
        answer, recorded = _do_work(work, reference, options)
    if answer.failure or answer.reference is None:
        raise _error_of(answer.failure)
    found = answer.reference
    for text in found.notices:
        notice(text)
    counts = class_counts(options.class_counts, None) if options.class_counts else None
    verification = Verification(
        reference=describe_source(reference),
        inputs=Inputs(said=found.data.said, samples=found.samples, batches=found.batches, sha256=found.digest),
        accuracy=accuracy_of({TRUTH: recorded[TRUTH]}, found.labels, counts),
        candidates=[],
        curves=found.curves,
        versions=versions(_PACKAGES),
        command=options.command,
    )
    outcome = VerificationOutcome(verification, {k: v for k, v in recorded.items() if k != FLOAT32_AGAIN}, found)
    for i, (source, candidate) in enumerate(zip(candidates, about, strict=True)):
        job = _candidate_job(source, reference, candidate, found, options, _label(source, candidates, i))
        _judge(job, candidate, recorded, outcome, options, counts)
    if found.rows:
        verification.detected = draw_detections(found.data, outcome.recorded)
    return outcome


def _require_runner(candidates: Sequence[ModelSource], runners: Sequence[str]) -> None:
    """Say what is missing before long work, where no candidate could run."""
    from ..runtimes.onnxruntime import check_providers

    if any(source.kind is not SourceKind.ONNX for source in candidates):
        return
    missing: MissingError | None = None
    for providers in map(SESSIONS.get, runners):
        if providers is None:
            return
        try:
            check_providers(providers)
            return
        except MissingError as error:
            missing = missing or error
    if missing:
        raise missing


def _describe(source: ModelSource, options: Options) -> Candidate:
    try:
        compared = describe_source(source, options.precision)
        check_derivable(compared.precision, options.limits, compared.name)
        return Candidate(**compared.model_dump())
    except ApaError as error:
        return Candidate(name=source.name, kind=source.kind, failure=FailureRecord.of(error))


def _reference_job(
    reference: ModelSource, candidates: Sequence[ModelSource], about: Sequence[ComparedSource], options: Options
) -> ReferenceJob:
    fixed = [_batch_of(source) for source in candidates]
    batch = next((size for size in fixed if size), None)
    return ReferenceJob(
        source=reference,
        loading=options.loading,
        inputs=options.inputs,
        batch=options.batch or batch,
        fixed=batch is not None,
        stored=sorted({compared.precision for compared in about} & set(HALF_ELEMENT)),
        normalise=options.normalise,
        resize=options.resize,
    )


def _batch_of(source: ModelSource) -> int | None:
    try:
        return read_facts(Path(source.text)).signature.first.fixed_batch if source.kind is SourceKind.ONNX else None
    except InputError:
        return None  # said by `describe_source`


def _label(source: ModelSource, candidates: Sequence[ModelSource], i: int) -> str:
    """The candidate's name, numbered where another has the same."""
    same = [other for other in candidates if other.name == source.name]
    return source.name if len(same) == 1 else f"{source.name} ({i + 1})"


def _candidate_job(
    source: ModelSource,
    reference: ModelSource,
    candidate: Candidate,
    found: ReferenceAnswer,
    options: Options,
    label: str,
) -> CandidateJob:
    return CandidateJob(
        source=source,
        label=label,
        reference=reference,
        loading=options.loading,
        data=found.data,
        output_names=found.output_names,
        precision=candidate.precision,
        runners=list(options.runners),
        per_layer=options.per_layer,
        half_io=candidate.half_io,
        trust_engine=options.trust_engine,
    )


def _judge(
    job: CandidateJob,
    candidate: Candidate,
    reference: Recorded,
    outcome: VerificationOutcome,
    options: Options,
    counts: Sequence[int] | None,
) -> None:
    """Run one candidate and put its verdict into `outcome`."""
    outcome.verification.candidates.append(candidate)
    if candidate.failure:
        return
    start = time.perf_counter()
    try:
        if not options.other_weights:
            check_weights(candidate, outcome.verification.reference, outcome.answer)
        with step(f"Running {job.label}"):
            answer, made = _do_work(Work(candidate=job, answer="", results=""), job.source, options)
        _take(answer, candidate, outcome.answer)
        if not candidate.failure:
            made = align(made, reference, candidate)
            outcome.recorded |= made
            candidate.outputs = judge_outputs(candidate, made, reference, options.limits, outcome.answer)
            candidate.accuracy = accuracy_of(made, outcome.answer.labels, counts)
    except ApaError as error:
        candidate.failure = FailureRecord.of(error)
    candidate.seconds = time.perf_counter() - start


def _do_work(work: Work, source: ModelSource, options: Options) -> tuple[Answer, Recorded]:
    """In a child process, unless a live module is among what is compared."""
    if options.isolate:
        return run_isolated(work, source.name, options.timeout)
    try:
        return do_work(work)
    except ApaError as error:
        return Answer(failure=FailureRecord.of(error)), {}


def _take(answer: Answer, candidate: Candidate, found: ReferenceAnswer) -> None:
    """What a candidate's process said."""
    candidate.failure = answer.failure
    said = answer.candidate
    if said is None:
        return
    if said.digest != found.digest:
        saw, do = (
            f"{candidate.name} was given other inputs",
            "Give the same data on every call: seed what is random.",
        )
        raise InputError(saw, "the inputs of the reference, byte by byte", do)
    candidate.activations, candidate.kernels, candidate.layers = said.activations, said.kernels, said.layers
    candidate.notices += said.notices


_ERRORS: dict[int, type[ApaError]] = {1: GateError, 3: MissingError}


def _error_of(failure: FailureRecord | None) -> ApaError:
    if failure is None:
        return GateError("the reference gave no answer", "its outputs", "Run again with --debug.")
    return _ERRORS.get(failure.exit_code, InputError)(failure.saw, failure.wanted, failure.do)
