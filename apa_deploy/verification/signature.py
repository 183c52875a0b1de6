"""What an ONNX file takes, in which number type it computes, and what it was made from; its weights stay unread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from pydantic import BaseModel

from ..errors import InputError
from ..graph.node import DOMAIN
from ..graph.precision import HALF_ELEMENT
from ..graph.sites import recorded

_INTEGER_MATHS = {"QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv"}
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, *HALF_ELEMENT.values())


class Tensor(BaseModel):
    """An input: `element`: TensorProto.DataType; `shape`: None for an open dimension, or as a whole if unknown."""

    name: str
    element: int
    shape: list[int | None] | None


class Signature(BaseModel):
    """`precision`: "fp32", "fp16", "bf16" or "int8". `fused`: whether it has `com.apa` nodes.

    `source_sha256`: of the checkpoint that it says it was made from, or "".
    """

    inputs: list[Tensor]
    outputs: list[str]
    precision: str
    fused: bool
    source: str
    source_sha256: str


def signature_of(path: Path) -> Signature:
    """The signature of the ONNX file at `path`.

    Raises:
        InputError: it is none.
    """
    model = read_graph(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    return Signature(
        inputs=[_tensor(value) for value in model.graph.input if value.name not in stored],
        outputs=[value.name for value in model.graph.output],
        precision=_precision(model),
        fused=any(node.domain == DOMAIN for node in model.graph.node),
        source=recorded(model, "apa.source") or "",
        source_sha256=recorded(model, "apa.source_sha256") or "",
    )


def read_graph(path: Path) -> onnx.ModelProto:
    """The model at `path`, its external weights unread.

    Raises:
        InputError: it is none.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, ValueError, TypeError, DecodeError) as error:
        raise InputError(
            f"{path.name}: {str(error).splitlines()[0]}", "an ONNX model", "Check the file."
        ) from error
    if not model.graph.node:
        raise InputError(f"{path.name}: no graph", "an ONNX model", "Check the file.")
    return model


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return Tensor(name=value.name, element=tensor.elem_type, shape=dims if tensor.HasField("shape") else None)


def _precision(model: onnx.ModelProto) -> str:
    if any(node.op_type in _INTEGER_MATHS for node in model.graph.node):
        return "int8"
    sizes: dict[int, int] = {}
    for tensor in model.graph.initializer:
        sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + int(np.prod(tensor.dims, dtype=np.int64))
    halves = [name for name, element in HALF_ELEMENT.items() if sizes.get(element)]
    return halves[0] if halves else "fp32"


def fixed_batch(signature: Signature) -> int | None:
    """The batch that the first input insists on, or None."""
    shape = signature.inputs[0].shape if signature.inputs else None
    return shape[0] if shape else None


def matched(signature: Signature, feed: Mapping[str, np.ndarray], name: str) -> dict[str, str]:
    """The file's input name -> the feed's; one input each may differ in name.

    Raises:
        InputError: names, types or shapes do not go together.
    """
    wanted = [tensor.name for tensor in signature.inputs]
    if set(wanted) != set(feed) and not len(wanted) == len(feed) == 1:
        saw = f"{name} with inputs {', '.join(wanted)}"
        raise InputError(saw, f"inputs {', '.join(feed)}, as of the reference", "Compare the same interface.")
    names = {w: w for w in wanted} if set(wanted) == set(feed) else {wanted[0]: next(iter(feed))}
    for tensor in signature.inputs:
        _check_type(tensor, feed[names[tensor.name]].dtype, name)
        _check_shape(tensor, feed[names[tensor.name]].shape, name)
    return names


def _check_type(tensor: Tensor, given: np.dtype, name: str) -> None:
    kind = helper.tensor_dtype_to_np_dtype(tensor.element)
    both_float = tensor.element in _FLOATS and np.issubdtype(given, np.floating)
    if both_float or kind == given:
        return
    pixels = "Pass --preprocess as for the export." if kind == np.uint8 else "Leave --preprocess out."
    do = pixels if np.uint8 in (kind, given) else "Compare the same interface."
    raise InputError(f"{name}: input {tensor.name} of type {kind}", f"{given}, as of the reference", do)


def _check_shape(tensor: Tensor, given: tuple[int, ...], name: str) -> None:
    if tensor.shape is None:
        return
    dims = zip(tensor.shape, given, strict=False)
    if len(tensor.shape) != len(given) or any(want not in (None, have) for want, have in dims):
        shape = ", ".join("?" if d is None else str(d) for d in tensor.shape)
        saw = f"{name}: input {tensor.name} of shape ({shape})"
        do = "Pass --input-shape, --batch or --inputs that fit both."
        raise InputError(saw, f"a shape that takes {given}, as of the reference", do)
