"""Turn a graph of any float type into float64: what it means, without its rounding.

initializer, Constant, Cast(to=FLOAT or a half type), value: FLOAT ...   ->   DOUBLE
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from .node import subgraphs
from .recognise.evaluate import FLOATS, STANDARD

_DOUBLE = TensorProto.DOUBLE
# Attributes that name an element type.
_TYPE_NAMES = {"to", "dtype", "output_dtype", "precision", "softmax_precision"}


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model`, its functions inlined: every float a float64, every standard operator of domain ""."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _widen(copy.graph)
    for entry in copy.opset_import:
        entry.domain = _own_name(entry.domain)
    return copy


def _own_name(domain: str) -> str:
    """The evaluator knows one of the two names of the standard domain."""
    return "" if domain in STANDARD else domain


def _widen(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = _DOUBLE
    for node in graph.node:
        node.domain = _own_name(node.domain)
        for attribute in node.attribute:
            _widen_attribute(node, attribute)
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", helper.make_tensor("", _DOUBLE, [1], [0.0])))
        for inner in subgraphs(node):
            _widen(inner)


def _widen_attribute(node: onnx.NodeProto, attribute: AttributeProto) -> None:
    if attribute.HasField("t"):
        _widen_tensor(attribute.t)
    elif attribute.name in _TYPE_NAMES and attribute.i in FLOATS:
        attribute.i = _DOUBLE
    elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
        values = np.asarray(helper.get_attribute_value(attribute), dtype=np.float64)
        attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in FLOATS and tensor.data_type != _DOUBLE:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
