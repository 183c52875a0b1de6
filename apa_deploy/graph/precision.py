"""A float32 graph -> the same graph in a half type, with float32 islands where the maths needs them.

    input -> Cast -> Conv(half) -> AGLU(half) -> Cast -> ReduceMean(float32) -> Cast -> Gemm(half) -> Cast -> output

Canonical nodes take the half type directly; `decompose` then puts its own island around each. The converter
of onnxconverter-common knows no bfloat16 and moves weights below 1e-7 and above 1e4, hence this one.
"""

from __future__ import annotations

from collections.abc import Iterable

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..choices import PRECISIONS
from ..errors import InputError
from .functions import standard_opset
from .islands import islands, types_allowed
from .node import read_by, subgraphs
from .values import ranks_and_types

FLOAT = TensorProto.FLOAT
HALF_ELEMENT = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
NUMPY_TYPE = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
# Half the distance from 1 to the next number: the relative error of one rounding.
UNIT_ROUNDOFF = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}
# The first opset whose Conv and pooling have the type.
LOWEST_OPSET = {"fp32": 18, "fp16": 18, "bf16": 22}


class PrecisionError(InputError):
    """A graph cannot go to a half type. `precision`, `value`: which, and the value or node in the way."""

    def __init__(self, precision: str, value: str, saw: str, wanted: str, do: str) -> None:
        super().__init__(f"{value}: {saw}", wanted, do)
        self.precision, self.value = precision, value


def in_precision(model: onnx.ModelProto, precision: str, *, half_io: bool = False) -> onnx.ModelProto:
    """`model` itself in `precision`, one of PRECISIONS; values keep their names.

    Args:
        half_io: whether inputs and outputs take the half type too; else they stay float32.

    Raises:
        PrecisionError: a weight overflows the type.
    """
    check_precision(precision, half_io)
    if precision != "fp32":
        _Conversion(model, precision, half_io).run(islands(model, HALF_ELEMENT[precision]))
    return model


def check_precision(precision: str, half_io: bool) -> None:
    """Refuse what `in_precision` cannot do, before long work."""
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}", " or ".join(PRECISIONS), "Choose one of these.")
    if half_io and precision == "fp32":
        raise InputError("--half-io with --precision fp32", "fp16 or bf16", "Give --precision as well.")


class _Conversion:
    """One run over a graph. `_type` holds the type each float value is stored in."""

    def __init__(self, model: onnx.ModelProto, precision: str, half_io: bool) -> None:
        self._model, self._graph, self._precision = model, model.graph, precision
        self._half, self._io = HALF_ELEMENT[precision], HALF_ELEMENT[precision] if half_io else FLOAT
        self._opset = standard_opset(model)
        _lift_constants(model.graph)
        known = ranks_and_types(model)
        self._other = {name for name, (_, element) in known.items() if element != FLOAT}
        self._weights = {t.name: t for t in model.graph.initializer if t.data_type == FLOAT}
        self._type: dict[str, int] = {}
        self._cast: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self, kept: set[int]) -> None:
        self._declare(self._graph.input)
        for i, node in enumerate(self._graph.node):
            self._keep_captured(node)
            self._convert(node, FLOAT if i in kept else self._half)
        self._restore_outputs()
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        self._rewrite_weights()
        for value in self._graph.value_info:
            if value.name in self._type:
                value.type.tensor_type.elem_type = self._type[value.name]

    def _declare(self, values: Iterable[onnx.ValueInfoProto]) -> None:
        for value in values:
            if value.type.tensor_type.elem_type == FLOAT:
                self._type[value.name] = value.type.tensor_type.elem_type = self._io

    def _convert(self, node: onnx.NodeProto, element: int) -> None:
        takes, makes = types_allowed(node, self._opset, self._half)
        for i, name in enumerate(node.input):
            if self._is_float(name):
                node.input[i] = self._as(name, element if takes(i) else FLOAT)
        for i, name in enumerate(node.output):
            if name and name not in self._other:
                self._type[name] = element if makes(i) else FLOAT
        if element == self._half:
            _retype_attributes(node, element)
        self._nodes.append(node)

    def _keep_captured(self, node: onnx.NodeProto) -> None:
        """What the branches and bodies of a node read from around them, they read in float32."""
        for inner in subgraphs(node):
            for name in sorted(read_by(node) - set(node.input)):
                if self._is_float(name) and (wide := self._as(name, FLOAT)) != name:
                    _rename_reads(inner, name, wide)

    def _is_float(self, name: str) -> bool:
        return name in self._type or name in self._weights

    def _as(self, name: str, element: int) -> str:
        """The name of `name`'s value in type `element`: its own, a cast's, or a converted weight's."""
        if self._type.get(name) == element:
            return name
        if (name, element) not in self._cast:
            self._cast[name, element] = self._add_cast(name, element)
        return self._cast[name, element]

    def _add_cast(self, name: str, element: int) -> str:
        if name in self._weights:
            return name if element == FLOAT else f"{name}/{self._precision}"
        new = f"{name}/{'fp32' if element == FLOAT else self._precision}"
        self._nodes.append(helper.make_node("Cast", [name], [new], name=f"{new}/Cast", to=element))
        return new

    def _restore_outputs(self) -> None:
        """A graph output of another type than was promised takes its name from a cast."""
        for value in self._graph.output:
            name, stored = value.name, self._type.get(value.name)
            if value.type.tensor_type.elem_type != FLOAT or stored is None:
                continue
            value.type.tensor_type.elem_type = self._io
            if stored != self._io:
                inner = f"{name}/inner"
                _rename(self._nodes, name, inner)
                self._nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}/Cast", to=self._io))
                self._type[name] = self._io

    def _rewrite_weights(self) -> None:
        """Keep each weight in the types in which it is used."""
        wanted = {name: new for (name, _), new in self._cast.items() if name in self._weights and new != name}
        used = {name for node in self._nodes for name in read_by(node)}
        kept = [t for t in self._graph.initializer if t.name in used or t.name not in self._weights]
        kept += [self._round_tensor(self._weights[name], new) for name, new in wanted.items()]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _round_tensor(self, tensor: TensorProto, name: str) -> TensorProto:
        exact = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            rounded = exact.astype(NUMPY_TYPE[self._precision])
        if not np.isfinite(rounded.astype(np.float32)[np.isfinite(exact)]).all():
            saw = f"a weight of {np.abs(exact).max():.3g}, which {self._precision} cannot hold"
            raise PrecisionError(
                self._precision, tensor.name, saw, "at most 65504", "Use --precision bf16 or fp32."
            )
        return numpy_helper.from_array(rounded, name)


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes with a tensor -> initializers."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            lifted = graph.initializer.add()
            lifted.CopyFrom(value)
            lifted.name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _retype_attributes(node: onnx.NodeProto, element: int) -> None:
    """Cast(to=FLOAT) -> Cast(to=half), ConstantOfShape(float) -> ConstantOfShape(half)."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == FLOAT:
            attribute.i = element
        elif attribute.HasField("t") and attribute.t.data_type == FLOAT:
            exact = numpy_helper.to_array(attribute.t)
            attribute.t.CopyFrom(numpy_helper.from_array(exact.astype(helper.tensor_dtype_to_np_dtype(element))))


def _rename(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for inner in subgraphs(node):
            _rename_reads(inner, old, new)
    for value in graph.output:
        value.name = new if value.name == old else value.name
