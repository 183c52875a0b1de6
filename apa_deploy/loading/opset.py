"""A graph at another opset of the standard operators; its weights, of any size, stay out of the conversion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx.version_converter
from onnx import TensorProto, helper

from ..errors import InputError
from ..graph.node import all_nodes, subgraphs

# Tensors up to this size may say something to the converter (axes, shapes); larger ones are weights.
_LARGEST_TOLD = 1024
_FIRST_RESIZE_WITH_MODES = 11
_FIRST_SCAN_OF_ONE = 9
_FIRST_FREE_BROADCAST, _ANY_SIZE = 7, 2


class OpsetError(InputError):
    """An ONNX graph cannot be brought to another opset. `have`, `wanted_opset`, `reason`."""

    def __init__(self, have: int, wanted: int, reason: str) -> None:
        super().__init__(
            f"opset {have}; its conversion says: {reason}",
            f"a graph that can be converted to opset {wanted}",
            f"Export the model again with opset {wanted}.",
        )
        self.have, self.wanted_opset, self.reason = have, wanted, reason


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of the standard operators."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def convert_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """`model` at `opset`: itself where it is there already. Values keep their names, the model its metadata.

    Raises:
        OpsetError: some operator cannot be converted.
    """
    have = opset_of(model)
    if have == opset:
        return model
    if have < _FIRST_SCAN_OF_ONE and any(node.op_type == "Scan" for node in all_nodes(model)):
        # onnx's converter leaves the batch out: the result has other shapes, and no error
        reason = "Scan of opset 8 goes over a batch by itself, and later ones over one sample"
        raise OpsetError(have, opset, reason)
    with _weights_set_aside(model), _sizes_given(model, have):
        try:
            result = onnx.version_converter.convert_version(model, opset)
        except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
            reason = str(error).splitlines()[0].rpartition("failed: ")[2]  # without onnx's own source line
            raise OpsetError(have, opset, reason) from error
    _put_back(result, model)
    if have < _FIRST_FREE_BROADCAST:
        ends = zip(
            (*result.graph.input, *result.graph.output), (*model.graph.input, *model.graph.output), strict=True
        )
        for value, kept in ends:
            value.type.CopyFrom(kept.type)
        del result.graph.value_info[:]
    if have < _FIRST_RESIZE_WITH_MODES:
        _keep_sampling(result.graph)
    return result


@contextmanager
def _sizes_given(model: onnx.ModelProto, have: int) -> Iterator[None]:
    """Before opset 7 broadcasting was spelled out, and the converter wants sizes to translate that: any will do."""
    ends = [value for value in (*model.graph.input, *model.graph.output) if have < _FIRST_FREE_BROADCAST]
    types = [onnx.TypeProto.FromString(value.type.SerializeToString()) for value in ends]
    for value in ends:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = dim.dim_value or _ANY_SIZE
    try:
        yield
    finally:
        for value, kept in zip(ends, types, strict=True):
            value.type.CopyFrom(kept)


def _keep_sampling(graph: onnx.GraphProto) -> None:
    """Upsample and the first Resize sample at x / scale; the converter leaves Resize's default, half pixels."""
    for node in graph.node:
        if node.op_type == "Resize":
            given = {attribute.name for attribute in node.attribute}
            for name, value in (("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")):
                if name not in given:
                    node.attribute.append(helper.make_attribute(name, value))
        for inner in subgraphs(node):
            _keep_sampling(inner)


@contextmanager
def _weights_set_aside(model: onnx.ModelProto) -> Iterator[None]:
    """Let weights be inputs for a while: the converter copies all it is given, and takes 2 GB at most."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    weights = [tensor for tensor in graph.initializer if _is_weight(tensor)]
    kept = [tensor for tensor in graph.initializer if not _is_weight(tensor)]
    inputs = list(graph.input)
    _set(graph.initializer, kept)
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in weights
    )
    try:
        yield
    finally:
        _set(graph.initializer, [*kept, *weights])
        _set(graph.input, [value for value in inputs if value.name not in stored])


def _put_back(result: onnx.ModelProto, model: onnx.ModelProto) -> None:
    weights = {tensor.name: tensor for tensor in model.graph.initializer if _is_weight(tensor)}
    _set(result.graph.input, [value for value in result.graph.input if value.name not in weights])
    result.graph.initializer.extend(weights.values())
    _set(result.metadata_props, list(model.metadata_props))


def _is_weight(tensor: TensorProto) -> bool:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size > _LARGEST_TOLD


def _set(field, values) -> None:  # type: ignore[no-untyped-def]
    del field[:]
    field.extend(values)
