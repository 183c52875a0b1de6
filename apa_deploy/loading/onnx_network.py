"""Somebody's ONNX file as a `Network`: it is its own truth, so that every gate can judge by it.

float64   the graph, by onnx's reference evaluation; an operator that it lacks is ONNX Runtime's, in float32
float32   the file in ONNX Runtime: the error that it had before anything was changed

Where a graph cannot be evaluated at all, ONNX Runtime's float32 stands for the truth, and for its error another
sample of it: without optimisations, every input one rounding further. Each activation alone is judged in float64
then too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from ..detection.rows import Rows
from ..errors import InputError
from ..graph.decompose import HALF_TYPES
from ..graph.functions import lowest_ir_version, with_functions
from ..graph.node import activations, all_activations, all_nodes, read_parameters
from ..graph.pieces import end_graph_at
from ..graph.precision import HALF_ELEMENT
from ..graph.randomness import random_nodes
from ..graph.read import read_graph
from ..graph.recognise import Recognition
from ..graph.reference_operators import round_array
from ..graph.repair import fix_sizes
from ..graph.sites import ActivationSite, NoMatch, site_of_node
from ..graph.stored import store_values
from ..graph.unsupported import UnsupportedOperators
from ..graph.values import largest_value, ranks_and_types
from ..graph.widen import widen
from ..maths import REFERENCE, Parameters
from ..network import FLOAT32, HALVES, OWN, TRUTH, Curve, Exchange, Metadata, Network, Trace
from ..progress import notice
from ..runtimes.ort_session import EndlessError, open_session, run_within, save_model
from ..tensors.inputs import is_float
from ..tensors.signature import Feed, Signature
from .opset import convert_opset, opset_of

# An IoU that no pair of boxes has.
_NO_OVERLAP = 2.0
_FLOOR = "in the graph"
_LOOP_S = 20.0  # of a run with a loop in it, whose end depends on its values
_MOST_ELEMENTS = 1 << 31  # of one value: what ends the memory of most machines
_PROVENANCE = "apa."


# ONNX Runtime has kernels from opset 7 on; an older file is run as converted to 13.
_FIRST_OPSET_RUN, _OPSET_OF_OLD_FILES = 7, 13


class NotRunError(InputError):
    """ONNX Runtime does not load the original. `reason`."""

    def __init__(self, error: Exception) -> None:
        self.reason = str(error).splitlines()[0].split(" : ")[-1].strip()[:300]
        super().__init__(
            f"ONNX Runtime says: {self.reason}",
            "a model that it runs, to hold the export against",
            "Export the model in float32 if it is in double, or pass --no-verify.",
        )


class EvaluationError(InputError):
    """A graph cannot be evaluated in float64. `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"neither onnx's reference evaluation nor ONNX Runtime computes it: {reason}",
            "a model that one of them runs, to hold the export against",
            "Pass --no-verify, and compare with apa-verify where the model runs.",
        )
        self.reason = reason


class OnnxNetwork(Network):
    """A graph and the same graph with its activations folded.

    Args:
        path: what ONNX Runtime loads; None where that is the part of it that `graph` holds.
        graph: the same, functions inlined: what is evaluated in float64. Not to be changed.
        folded: the same, its activations folded into canonical nodes; `recognition`: how.
        unsupported: the operators that nothing here runs, where there are any; `graph` then ends before them.
    """

    def __init__(
        self,
        path: Path | None,
        graph: onnx.ModelProto,
        folded: onnx.ModelProto,
        recognition: Recognition,
        signature: Signature,
        metadata: Metadata,
        unsupported: UnsupportedOperators | None = None,
    ) -> None:
        self.path, self.graph, self.recognition, self.unsupported = path, graph, recognition, unsupported
        self.signature, self.metadata = signature, metadata
        self._folded = folded
        self._evaluators: dict[str, Any] = {}
        self._delegated: dict[str, None] = {}  # operators without a float64
        self._told: set[str] = set()
        self._checked: list[Mapping[str, tuple[int, ...]]] = []
        self._unevaluated = ""  # why there is no float64 at all
        self.repaired = False  # whether `graph` takes what the file itself does not
        self._kept = {node.name: node for node in activations(folded.graph)}
        self._folds = {fold.name: fold for fold in recognition.found}

    @property
    def folded(self) -> onnx.ModelProto:
        """A copy of the graph with canonical nodes."""
        model = onnx.ModelProto()
        model.CopyFrom(self._folded)
        return model

    @cached_property
    def rows(self) -> Rows | None:
        return read_rows(self.graph.graph)

    @property
    def output_names(self) -> tuple[str, ...]:
        """As the graph names them; of a graph that is judged in part, those of the part."""
        return tuple(value.name for value in self.graph.graph.output)

    @property
    def activations(self) -> tuple[ActivationSite, ...]:
        """Those of subgraphs as well."""
        nodes = all_activations(self._folded.graph)
        return tuple(ActivationSite(n.name, n.op_type, read_parameters(n), _FLOOR) for n in nodes)

    def outputs(self, feed: Feed, dtype: str = TRUTH, exchange: Exchange | None = None) -> Feed:
        """See `Network.outputs`; `exchange` only looks, in float32 at nothing: ONNX Runtime shows no insides."""
        self._check_sizes(feed)
        if dtype == FLOAT32:
            return self._run_float32(feed)
        wide = {spec.name: self._cast(feed[spec.name], spec.numpy_dtype, dtype) for spec in self.signature.inputs}
        if dtype not in (TRUTH, OWN):
            wide = {name: round_array(array, dtype) for name, array in wide.items()}
        try:
            values = self._evaluate(wide, dtype, intermediate=exchange is not None)
        except EvaluationError as error:
            return self._stand_in(feed, error)
        if exchange:
            self._show(exchange, values)
        return {name: np.asarray(values[name]) for name in self.output_names}

    def _check_sizes(self, feed: Feed) -> None:
        """Refuse to run what a few nodes make larger than the memory, once for each set of shapes."""
        shapes = {spec.name: feed[spec.name].shape for spec in self.signature.inputs}
        if shapes in self._checked:
            return
        name, elements = largest_value(self.graph, shapes)
        if elements > _MOST_ELEMENTS:
            raise InputError(
                f"value {name} of {elements:,} elements",
                f"at most {_MOST_ELEMENTS:,}, {_MOST_ELEMENTS >> 27} GiB in float64",
                "Give smaller inputs with --inputs.",
            )
        self._checked.append(shapes)

    @cached_property
    def _loops(self) -> bool:
        return any(node.op_type == "Loop" for node in all_nodes(self.graph))

    def _run_float32(self, feed: Feed) -> Feed:
        session = self._float32
        feed = {spec.name: self._cast(feed[spec.name], spec.numpy_dtype, FLOAT32) for spec in self.signature.inputs}
        if self._unevaluated:
            session = open_session(self._runnable, optimise=False)
            feed = {n: np.nextafter(a, a.dtype.type(np.inf)) if a.dtype.kind == "f" else a for n, a in feed.items()}
        limit_s = _LOOP_S if self._loops else threading.TIMEOUT_MAX
        return dict(zip(self.output_names, run_within(session, self.output_names, feed, limit_s), strict=True))

    def _stand_in(self, feed: Feed, error: EvaluationError) -> Feed:
        """ONNX Runtime's float32 in the place of float64.

        Raises:
            EvaluationError: it cannot run the feed either.
        """
        why, self._unevaluated = self._unevaluated or error.reason, ""
        try:
            answers = self._run_float32(feed)
        except EndlessError:
            raise
        except Exception as other:  # ONNX Runtime's errors have no other base in common
            raise EvaluationError(f"{why}; {str(other).splitlines()[0][:200]}") from other
        self._unevaluated = why
        self._tell(
            f"there is no float64 of this graph ({why}): its outputs are compared with ONNX Runtime's float32, "
            "each activation alone with float64"
        )
        return {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in answers.items()}

    def _tell(self, text: str) -> None:
        """Once: the user now, and the reader of the passport."""
        if text not in self._told:
            self._told.add(text)
            notice(text)
            self.metadata.notices += (text,)

    def _cast(self, array: np.ndarray, own: np.dtype, dtype: str) -> np.ndarray:
        return array.astype(np.float64 if dtype != FLOAT32 and is_float(own) else own)

    def _evaluate(self, feed: Feed, dtype: str, *, intermediate: bool) -> Mapping[str, Any]:
        try:
            if dtype not in self._evaluators:
                wide = widen(self.graph)
                if dtype == OWN:
                    wide = store_values(wide, self._folded, self.half, self._halves)
                elif dtype != TRUTH:
                    wide = store_values(wide, self._folded, dtype)
                from ..graph.evaluator import make_evaluator

                self._evaluators[dtype] = make_evaluator(wide, self._delegated)
            values = self._evaluators[dtype].run(None, feed, intermediate=intermediate)
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError) as error:
            raise EvaluationError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error
        if self._delegated:
            names = ", ".join(self._delegated)
            self._tell(f"{names}: no float64 of it here, ONNX Runtime computes it in float32")
        return values if intermediate else dict(zip(self.output_names, values, strict=True))

    def _show(self, exchange: Exchange, values: Mapping[str, np.ndarray]) -> None:
        """What enters and leaves each activation; what leaves is computed by its curve, folded or not."""
        for path in exchange.paths:
            source, curve = self._source(path), self.curve(path)
            if curve and source in values:
                name, entering = exchange.next_use(path), np.asarray(values[source])
                exchange.arrive(name, entering)
                exchange.leave(name, curve(entering))

    def _source(self, path: str) -> str:
        node = self._kept.get(path)
        return self._folds[path].source if path in self._folds else node.input[0] if node else ""

    @cached_property
    def _halves(self) -> set[str]:
        """The values that the file itself stores in a half type."""
        known = ranks_and_types(self.graph)
        made = (name for node in self.graph.graph.node for name in node.output)
        return {name for name in made if known.get(name, (None, 0))[1] in HALF_TYPES}

    @property
    def half(self) -> str:
        """See `Network.half`."""
        known = ranks_and_types(self.graph) if self._halves else {}
        elements = {known[name][1] for name in self._halves}
        return next((name for name in reversed(HALVES) if HALF_ELEMENT[name] in elements), "")

    @cached_property
    def _runnable(self) -> Path | onnx.ModelProto:
        """What ONNX Runtime loads. Canonical nodes may have come without bodies, from torch or Polygraphy."""
        old = opset_of(self.graph) < _FIRST_OPSET_RUN
        if self.path and not (old or self.repaired or any(all_activations(self.graph.graph))):
            return self.path
        whole = onnx.ModelProto()
        whole.CopyFrom(self.graph)
        return with_functions(convert_opset(whole, _OPSET_OF_OLD_FILES) if old else whole)

    @property
    def runs(self) -> bool:
        """Whether ONNX Runtime loads it."""
        try:
            return bool(self._float32)
        except NotRunError:
            return False

    @cached_property
    def _float32(self) -> Any:
        try:
            return open_session(self._runnable)
        except Exception as error:  # ONNX Runtime's errors have no other base in common
            raise NotRunError(error) from error

    @property
    def session(self) -> Any:
        """The file in ONNX Runtime, as it came; None where not all of it can be run here."""
        return self._float32 if self.path else None

    def curve(self, path: str) -> Curve | None:
        """As the file spells it."""
        if path in self._folds:
            return self._folds[path].cut.curve
        node = self._kept.get(path)
        return _curve_of_node(node) if node is not None else None

    def trace(self, opset: int = 18, batch: int | None = None) -> Trace:
        """The folded graph; inputs, outputs, names and metadata stay theirs: tools that read them go on working."""
        proto = convert_opset(self.folded, self._opset(opset))
        _forget_own_provenance(proto)
        if batch:
            _fix_batch(proto, batch)
        proto.ir_version = lowest_ir_version(proto)
        sites = tuple(replace(site_of_node(n), path=n.name, use=1) for n in activations(proto.graph))
        left = tuple(NoMatch(r.node, r.reason) for r in self.recognition.refused if r.is_learned)
        return Trace(proto, sites, self.activations, self.output_names, left)

    def _opset(self, wanted: int) -> int:
        have = opset_of(self._folded)
        if have > wanted:
            notice(f"the file has opset {have} and keeps it")
        return max(have, wanted)

    def find_randomness(self, feed: Feed) -> tuple[str, ...]:
        """Nodes that draw numbers, or are in training mode; what else changes shows in two runs."""
        named = tuple(f"{node.op_type} {node.name or node.output[0]}" for node in random_nodes(self.graph))
        return named or super().find_randomness(feed)

    def explain(self) -> list[str]:
        found = self.recognition.found
        lines = [f"{f.name}: {f.kind}, {_show(f.parameters)}, from {f.spelling}" for f in found]
        kept = (site for site in self.activations if site.path not in self._folds)
        lines += [f"{s.path}: {s.kind}, {_show(s.parameters)}, a com.apa node already" for s in kept]
        return lines + [f"{r.node} was left as it is ({r.spelling}): {r.reason}" for r in self.recognition.refused]

    def judged_part(
        self, file: Path, sites: Sequence[ActivationSite]
    ) -> tuple[Path, Sequence[ActivationSite], tuple[str, ...]]:
        """What lies before operators that nothing here runs, written beside `file`."""
        if not self.unsupported:
            return super().judged_part(file, sites)
        part = end_graph_at(read_graph(file, weights=True), self.output_names)
        made = {output for node in part.graph.node for output in node.output}
        runnable = file.with_name("runnable.onnx")
        save_model(part, runnable)
        return runnable, [site for site in sites if site.target in made], self.output_names


def read_rows(graph: onnx.GraphProto) -> Rows | None:
    """What decides about detections in a graph: its last NMS, or a TopK alone, which suppresses none; else None."""
    nodes = {node.op_type: node for node in graph.node}
    if "NonMaxSuppression" not in nodes:
        return Rows(_NO_OVERLAP, 0.0) if "TopK" in nodes else None
    known = {tensor.name: tensor for tensor in graph.initializer}
    known |= {
        n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"
    }
    named = [known.get(name) for name in (*nodes["NonMaxSuppression"].input, "", "", "")[3:5]]
    values = [numpy_helper.to_array(t).ravel() if t is not None else np.zeros(0) for t in named]
    iou, score = (float(v[0]) if v.size else 0.0 for v in values)
    return Rows(iou, score)


def _curve_of_node(node: NodeProto) -> Curve:
    parameters = read_parameters(node)

    def evaluate(z: np.ndarray) -> np.ndarray:
        shape = [1] * np.ndim(z)
        if parameters.channels > 1:
            shape[parameters.axis] = parameters.channels
        lambdas, kappas = (np.array(v).reshape(shape) for v in zip(*parameters.pairs, strict=True))
        return REFERENCE[node.op_type](z, lambdas, kappas)

    return evaluate


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
    fix_sizes(proto, {v.name: {0: batch} for v in proto.graph.input if v.type.tensor_type.shape.dim})


def _show(parameters: Parameters) -> str:
    return f"lambda {_range(parameters.lambda_)}, kappa {_range(parameters.kappa)}"


def _range(values: tuple[float, ...]) -> str:
    return f"{values[0]:.6g}" if len(values) == 1 else f"{min(values):.6g} to {max(values):.6g}"
