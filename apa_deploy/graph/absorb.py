"""Activation, then QuantizeLinear -> one node that gives the codes itself, for the TensorRT plugin alone.

    z -> com.apa::AGLU -> QuantizeLinear <scale> -> codes     =>     z -> com.apa::AGLUCodes <scale_out> -> codes

TensorRT takes no Q into a plugin by itself: who wants int8 from one takes the Q out of the network, and leaves the
DQ behind it ("Q/DQ interaction with plugins" in NVIDIA's guide). Such a node has no function body: only a parser
that finds the plugin takes it. It has a name of its own, because a parser warns of each field that a plugin has and
a node lacks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .layout.edit import Links, attribute, is_standard
from .node import DOMAIN, SCALE_RANGE, activations, all_activations, read_by, write_scale_out


def absorb_quantisers(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy of a canonical `model` whose activations give int8 codes where nothing but one Q reads them; and of
    each other activation of the main graph the name, and why it does not.

    Not absorbed: a Q with a zero point or a scale a channel, to another type than int8, or whose scale is no
    float32 in `SCALE_RANGE`; an activation that something else reads too, be it a second Q, or that is an output.
    """
    changed = copy.deepcopy(model)
    links, kept, gone = Links(changed.graph), dict[str, str](), set[str]()
    for node in list(activations(changed.graph)):
        found = _quantiser_behind(node, links)
        if isinstance(found, str):
            kept[node.name or node.output[0]] = found
            continue
        quantiser, scale = found
        gone |= {node.output[0], quantiser.output[0]}
        write_scale_out(node, scale)
        node.output[0] = quantiser.output[0]
        quantiser.output[0] = ""
    if gone:
        _sweep(changed, gone)
    return changed, kept


def _quantiser_behind(node: onnx.NodeProto, links: Links) -> tuple[onnx.NodeProto, float] | str:
    """The Q that alone reads an activation, and its scale; or why not."""
    reader = links.only_reader(node.output[0])
    if reader is None:
        return "others read it, or it is an output"
    if not is_standard(reader, "QuantizeLinear") or reader.input[0] != node.output[0]:
        return "no Q reads it"
    if not _gives_int8(reader, links):
        return "codes of another type, or with a zero point"
    if attribute(reader, "block_size", 0):
        return "a scale a block"
    if attribute(reader, "precision", 0) not in (0, TensorProto.FLOAT):
        return "a quotient in another type"
    scale = _constant(reader.input[1], links)
    if scale is None or scale.dtype != np.float32 or scale.size != 1 or scale.ndim > 1:
        return "not one scale in float32"
    low, high = SCALE_RANGE
    if not low <= scale.item() <= high:  # NaN neither
        return "no scale that the kernels take"
    return reader, scale.item()


def _gives_int8(quantiser: onnx.NodeProto, links: Links) -> bool:
    """Whether the codes are int8 with zero point 0: by the zero point, or by the attribute where there is none."""
    if len(quantiser.input) < 3 or not quantiser.input[2]:
        return attribute(quantiser, "output_dtype", 0) == TensorProto.INT8
    zero = _constant(quantiser.input[2], links)
    return zero is not None and zero.dtype == np.int8 and zero.size == 1 and not zero.any()


def _constant(name: str, links: Links) -> np.ndarray | None:
    tensor: object = links.constants.get(name)
    if tensor is None and (maker := links.find_producer(name, "Constant")) is not None:
        tensor = attribute(maker, "value")
    if not isinstance(tensor, TensorProto) or tensor.data_location == TensorProto.EXTERNAL:
        return None
    return numpy_helper.to_array(tensor)


def _sweep(model: onnx.ModelProto, gone: set[str]) -> None:
    """Take out the Qs, what only they read, types that no longer hold, and bodies of which no node is left."""
    graph = model.graph
    nodes = [node for node in graph.node if not (is_standard(node, "QuantizeLinear") and node.output[0] == "")]
    read = {name for node in nodes for name in read_by(node)} | {value.name for value in graph.output}
    nodes = [node for node in nodes if not is_standard(node, "Constant") or read & set(node.output)]
    left = {node.op_type for node in all_activations(graph)}
    _replace(model.functions, [one for one in model.functions if one.domain != DOMAIN or one.name in left])
    _replace(graph.node, nodes)
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read])
    _replace(graph.value_info, [value for value in graph.value_info if value.name not in gone])


def _replace(field: Any, values: Iterable[Any]) -> None:
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)
