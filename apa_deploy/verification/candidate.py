"""Run a candidate on the reference's inputs, and judge each of its activations alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ..errors import InputError
from ..graph.precision import NUMPY_TYPE
from ..network import FLOAT32
from ..records.parity import ActivationCheck
from ..report.record import ActivationError
from ..tensors.signature import TensorSpec
from .data import Batch, Data, Digest, read_batches
from .runners import ArtifactRunner, EmulatedRunner, OpenVinoRunner
from .signature import OnnxFacts, match_inputs, read_facts
from .source import COMPILED, Loading, ModelSource, SourceKind, load_network

if TYPE_CHECKING:
    from pathlib import Path

    from ..network import Network


_FEW = 2
Seen = dict[str, dict[str, Any]]


class CandidateJob(BaseModel):
    """`label`: what its runners are called. `runners`: for ONNX files, of runners.RUNNERS.

    `per_layer`: measure what every piece adds. `half_io`, `trust_engine`: of an engine.
    """

    source: ModelSource
    label: str
    reference: ModelSource
    loading: Loading
    data: Data
    output_names: list[str]
    precision: str
    runners: list[str] = ["onnxruntime"]
    per_layer: bool = False
    half_io: bool = False
    trust_engine: bool = False


class CandidateAnswer(BaseModel):
    """`digest`: over the inputs it saw. The outputs lie apart."""

    digest: str
    activations: list[ActivationCheck] = []
    kernels: list[ActivationCheck] = []
    layers: list[ActivationError] = []
    notices: list[str] = []


def run_candidate(job: CandidateJob) -> tuple[CandidateAnswer, dict[str, list[dict[str, Any]]]]:
    """The answer, and the outputs of each of its runners: a list of {name: array}, one a batch.

    Raises:
        InputError: it cannot be loaded, takes other inputs than the reference, or its runtime refuses to run it.
    """
    digest = Digest()
    first = next(iter(read_batches(job.data)))
    notices: list[str] = []
    runners, names = _open_runners(job, first, notices)
    recorded: dict[str, list[dict[str, Any]]] = {}
    for i, runner in enumerate(runners):
        stream = read_batches(job.data) if i else digest.of(read_batches(job.data))
        recorded[runner.name] = _run(runner, stream, names, job.source.name)
        if placement := getattr(runner, "placement", None):
            notices.append(f"activations in {runner.name}: {placement}")
    answer = CandidateAnswer(digest=digest.hex, notices=notices)
    _judge_activations(job, _few(first, job.data), _insides(recorded, job), answer)
    return answer, recorded


def _few(batch: Batch, data: Data) -> Batch:
    """Two samples: every value inside the network is held in float64."""
    return batch if data.fixed else Batch({name: array[:_FEW] for name, array in batch.feed.items()})


def _insides(recorded: dict[str, list[dict[str, Any]]], job: CandidateJob) -> Seen:
    """Values that TensorRT showed beside the outputs, of the first batch, taken out of `recorded`."""
    seen: Seen = {}
    for runner in (r for r in recorded if r.startswith(f"{job.label}: tensorrt")):
        outputs = set(job.output_names)
        inside = {k: v for k, v in recorded[runner][0].items() if k not in outputs}
        seen[runner] = inside if job.data.fixed else {k: v[:_FEW] for k, v in inside.items()}
        recorded[runner] = [{k: v for k, v in one.items() if k in outputs} for one in recorded[runner]]
    return seen


def _open_runners(job: CandidateJob, first: Batch, notices: list[str]) -> tuple[list[Any], dict[str, str]]:
    """Its runners, and the name of the feed for each of its inputs."""
    path = job.source.path
    if path is None or job.source.kind is SourceKind.CHECKPOINT:
        return [_torch_runner(job, first)], {name: name for name in first.feed}
    if job.source.kind in COMPILED:
        names = _names_of(job.source.kind, path, list(first.feed))
        return [_open_compiled(job, path, first, names)], names
    facts = read_facts(path)
    names = match_inputs(facts.signature, first.feed, job.source.name)
    notices += [f"input {mine} takes the reference's {theirs}" for mine, theirs in names.items() if mine != theirs]
    shapes = {mine: first.feed[theirs].shape for mine, theirs in names.items()}
    return [r for runner in job.runners for r in _onnx_runners(job, path, facts, runner, shapes)], names


def _names_of(kind: SourceKind, path: Path, given: list[str]) -> dict[str, str]:
    """The file's input name -> the feed's; one input each may differ in name. An engine's are those of the feed."""
    if kind is SourceKind.OPENVINO:
        from ..runtimes.openvino import read_inputs

        own = [name for name, _, _ in read_inputs(path)]
        if len(own) == len(given) == 1:
            return {own[0]: given[0]}
    return {name: name for name in given}


def _open_compiled(job: CandidateJob, path: Path, first: Batch, names: dict[str, str]) -> Any:
    """An engine or an IR takes its inputs in its own type, to the bit."""
    dtype = NUMPY_TYPE[job.precision].name if job.half_io else "float32"
    floats = [mine for mine, theirs in names.items() if first.feed[theirs].dtype.kind == "f"]
    inputs = [TensorSpec(name, dtype, None) for name in floats]
    runtime = "OpenVINO" if job.source.kind is SourceKind.OPENVINO else "engine"
    return ArtifactRunner(path, f"{job.label}: {runtime}", inputs, trust=job.trust_engine)


def _torch_runner(job: CandidateJob, first: Batch) -> Any:
    from ..parity.runners import NetworkRunner

    network = load_network(job.source, job.loading)
    metadata = replace(network.metadata, output_names=tuple(job.output_names))
    return NetworkRunner(network.with_metadata(metadata), first.feed, FLOAT32, f"{job.label}: torch float32")


def _onnx_runners(
    job: CandidateJob, path: Path, facts: OnnxFacts, runner: str, shapes: dict[str, tuple[int, ...]]
) -> list[Any]:
    """One or more: fused nodes also by their function bodies, half graphs also with every rounding."""
    if runner == "openvino":
        return [OpenVinoRunner(path, f"{job.label}: OpenVINO", facts)]
    if runner.startswith("tensorrt"):
        from .tensorrt_runner import tensorrt_runner

        return [tensorrt_runner(path, f"{job.label}: {runner}", runner, shapes, job.per_layer)]
    if runner != "onnxruntime":
        # Of the reference's batches the first is the largest.
        profile = {name: ((1, *shape[1:]), shape, shape) for name, shape in shapes.items()}
        inputs = facts.signature.inputs
        return [ArtifactRunner(path, f"{job.label}: {runner}", inputs, runner, profile=profile)]
    made: list[Any] = []
    if job.precision != "bf16":  # the CPU provider has no bf16 convolution
        made.append(ArtifactRunner(path, f"{job.label}: ONNX Runtime", facts.signature.inputs))
        if facts.fused:
            made.append(_bodies(path, job.label))
    if job.precision in ("fp16", "bf16"):
        made.append(EmulatedRunner(path, f"{job.label}: every value rounded to {job.precision}", job.precision))
    return made


def _bodies(path: Path, label: str) -> Any:
    from ..parity.session_runner import SessionRunner

    return SessionRunner(path, f"{label}: ONNX Runtime, function bodies")


def _run(runner: Any, stream: Any, names: dict[str, str], name: str) -> list[dict[str, Any]]:
    try:
        with runner:
            return [
                dict(runner.infer({mine: batch.feed[theirs] for mine, theirs in names.items()}, check_inputs=False))
                for batch in stream
            ]
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(name, runner.name, reason) from error


class RunError(InputError):
    """A runtime refuses to run a candidate on these inputs: no gate was asked. `name`, `runner`, `reason`."""

    def __init__(self, name: str, runner: str, reason: str) -> None:
        super().__init__(f"{runner}: {reason}", f"{name} to run", "Run it alone with its runtime's own tool.")
        self.name, self.runner, self.reason = name, runner, reason


def _judge_activations(job: CandidateJob, first: Batch, seen: Seen, answer: CandidateAnswer) -> None:
    """The operator and kernel gates, and what every piece adds, where the candidate's activations are known."""
    if job.source.kind in COMPILED:
        if job.per_layer:
            answer.notices.append("it shows nothing inside: give the .onnx file that it was built from")
        return
    reference = load_network(job.reference, job.loading)
    if job.source.kind is SourceKind.ONNX:
        _judge_onnx(job, reference, first, seen, answer)
    else:
        _judge_torch(job, reference, first, answer)


def _judge_onnx(job: CandidateJob, reference: Network, first: Batch, seen: Seen, answer: CandidateAnswer) -> None:
    from .activations import check_operators, match_sites

    assert job.source.path is not None
    sites, notices = match_sites(job.source.path, reference)
    answer.notices += notices
    answer.activations, answer.kernels = check_operators(job.source.path, sites, reference, job.precision)
    if not job.per_layer:
        return
    from .layers_onnx import measure_onnx_layers
    from .layers_replay import measure_replayed_layers

    answer.layers = measure_onnx_layers(job.source.path, reference, sites, first.feed, job.precision, job.label)
    for runner, values in seen.items():
        answer.layers += measure_replayed_layers(values, reference, sites, first.feed, job.precision, runner)


def _judge_torch(job: CandidateJob, reference: Network, first: Batch, answer: CandidateAnswer) -> None:
    from .activations import check_modules

    candidate = load_network(job.source, job.loading)
    answer.activations, notices = check_modules(candidate, reference)
    answer.notices += notices
    if job.per_layer:
        from .layers_torch import measure_torch_layers

        names = job.output_names
        answer.layers = measure_torch_layers(candidate, reference, first.feed, names, job.label)
