"""Somebody's ONNX file -> canonical ONNX: activations folded, opset raised; everything else stays theirs.

Their inputs, outputs, names and metadata are kept: tools that read them go on working.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from apa_deploy.errors import InputError
from apa_deploy.graph.foreign import up_to
from apa_deploy.graph.node import Parameters, all_activations, read_parameters
from apa_deploy.loading.load import Model
from apa_deploy.loading.onnx_file import converted, opset_of
from apa_deploy.loading.onnx_network import OriginalGraph
from apa_deploy.parity.graph_inputs import graph_feeds, user_graph_feeds
from apa_deploy.parity.inputs import Feed
from apa_deploy.parity.operator_gate import Site
from apa_deploy.parity.runners import cpu_session
from apa_deploy.progress import notice
from apa_deploy.replace import Found, Replacements
from apa_deploy.runtimes.ort_session import save

from ..options import BATCHES
from .canonical import Canonical, TraceOptions, lowest_ir_version

_FLOOR = "in the graph"
_BATCH = 2  # of open batch dimensions, for verification
_PROVENANCE = "apa."
# The speed-up is a hint, not a benchmark: the median of so many turns each, small networks taking more.
_WARM_UP, _TURNS, _MOST_TURNS, _SECONDS = 2, 7, 100, 2.0


def canonical_from_onnx(model: Model, options: TraceOptions) -> Canonical:
    """The canonical form of a model that `apa_deploy.load` made from an `.onnx` file.

    Raises:
        OpsetError: an operator cannot be converted.
        InputError: a fixed batch was asked for and the file has another one.
    """
    original = model.module
    assert isinstance(original, OriginalGraph)
    proto = converted(original.folded, _opset(original, options.opset))
    _forget_own_provenance(proto)
    if options.batch:
        _fix_batch(proto, options.batch)
    proto.ir_version = lowest_ir_version(proto)
    return Canonical(proto, copy.deepcopy(original).double(), _found(original), original.output_names)


def _opset(original: OriginalGraph, wanted: int) -> int:
    have = opset_of(original.folded)
    if have > wanted:
        notice(f"the file has opset {have} and keeps it")
    return max(have, wanted)


def _forget_own_provenance(proto: onnx.ModelProto) -> None:
    """A file that we made says of what; the new one says it anew."""
    kept = [entry for entry in proto.metadata_props if not entry.key.startswith(_PROVENANCE)]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)


def _fix_batch(proto: onnx.ModelProto, batch: int) -> None:
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value not in (0, batch):
            have = f"input {value.name} with a batch of {dims[0].dim_value}"
            raise InputError(have, f"--batch {batch}", "Leave --batch out, or export the model with an open batch.")
        if dims:
            dims[0].dim_value = batch
    del proto.graph.value_info[:]  # of the open batch
    for value in proto.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.Clear()


def _found(original: OriginalGraph) -> Replacements:
    folded = [(node.name, node.op_type, read_parameters(node)) for node in all_activations(original.folded.graph)]
    found = (
        Found(name, kind, _FLOOR, p.lambda_, p.kappa, (max(len(p.lambda_), len(p.kappa)),), p.axis)
        for name, kind, p in folded
    )
    return Replacements(tuple(found), ())


def fixed_batch(model: Model) -> int | None:
    """The batch that an `.onnx` file fixes; None where it is open, and for other models."""
    if not isinstance(model.module, OriginalGraph):
        return None
    dims = model.module.inputs[0].type.tensor_type.shape.dim
    return (dims[0].dim_value or None) if dims else None


def batches_of(model: Model, wanted: tuple[int, int, int]) -> tuple[int, int, int]:
    """An engine's batches, where the usual are `wanted`: a file of a fixed batch says it itself.

    A contradiction to what the user chose is refused when the graph is made.
    """
    fixed = fixed_batch(model)
    return (fixed, fixed, fixed) if fixed and wanted == BATCHES else wanted


def feeds_from_onnx(model: Model, batch: int | None, inputs: Path | None) -> tuple[list[Feed], str]:
    """What to verify on, and what the report says about it."""
    original = model.module
    assert isinstance(original, OriginalGraph) and model.input_shape is not None
    if inputs:
        return user_graph_feeds(inputs, original.inputs), inputs.name
    return graph_feeds(original.inputs, model.input_shape, batch or _BATCH), "seeded"


def runnable_part(path: Path, outputs: Sequence[str], places: Sequence[Site]) -> tuple[Path, list[Site]]:
    """The part of the file at `path` before operators that nothing here runs, and its activations."""
    part = up_to(onnx.load(path), outputs)
    made = {output for node in part.graph.node for output in node.output}
    runnable = path.with_name("runnable.onnx")
    save(part, runnable)
    return runnable, [site for site in places if site.target in made]


@dataclass(frozen=True)
class SpeedUp:
    """Milliseconds a run in ONNX Runtime on this machine: the original, and what was made of it."""

    original: float
    exported: float

    def __str__(self) -> str:
        ratio = self.original / self.exported
        return f"ONNX Runtime: {self.original:.1f} ms before, {self.exported:.1f} ms now: {ratio:.2f} times as fast"


def speed_up(model: Model, out: Path, batch: int | None, library: Path | None) -> SpeedUp:
    """Run the original and `out` by turns, one pool of threads at a time idle."""
    original = model.module
    assert isinstance(original, OriginalGraph)
    feed = feeds_from_onnx(model, batch, None)[0][0]
    sessions = [original.session, cpu_session(out, library)]
    samples: list[list[float]] = [[], []]
    begin = time.perf_counter()
    for turn in range(_WARM_UP + _MOST_TURNS):
        if turn >= _WARM_UP + _TURNS and time.perf_counter() - begin > _SECONDS:
            break
        for session, times in zip(sessions, samples, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
    return SpeedUp(*(statistics.median(times[_WARM_UP:]) for times in samples))


def explained(model: Model) -> list[str]:
    """What was recognised and what was left, line by line, for `--explain`."""
    original = model.module
    assert isinstance(original, OriginalGraph)
    recognition = original.recognition
    names = {fold.name for fold in recognition.found}
    lines = [f"{f.name}: {f.kind}, {_shown(f.parameters)}, from {f.spelling}" for f in recognition.found]
    kept = (node for node in all_activations(original.folded.graph) if node.name not in names)
    lines += [f"{n.name}: {n.op_type}, {_shown(read_parameters(n))}, a com.apa node already" for n in kept]
    return lines + [f"{r.node} was left as it is ({r.spelling}): {r.reason}" for r in recognition.refused]


def _shown(parameters: Parameters) -> str:
    return f"lambda {_range(parameters.lambda_)}, kappa {_range(parameters.kappa)}"


def _range(values: tuple[float, ...]) -> str:
    return f"{values[0]:.6g}" if len(values) == 1 else f"{min(values):.6g} to {max(values):.6g}"
