"""What an ONNX file takes, in which number type it computes, and what it was made from; its weights stay unread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from pydantic import BaseModel

from ..errors import InputError
from ..graph.node import DOMAIN
from ..graph.precision import HALF_ELEMENT
from ..graph.read import read_graph
from ..graph.sites import read_metadata
from ..tensors.inputs import fits_dims, is_float
from ..tensors.signature import Signature, TensorSpec, read_signature

_INTEGER_MATHS = {"QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv"}


class OnnxFacts(BaseModel):
    """`precision`: "fp32", "fp16", "bf16" or "int8". `fused`: whether it has `com.apa` nodes.

    `source_sha256`: of the checkpoint that it says it was made from, or "".
    """

    signature: Signature
    precision: str
    fused: bool
    source: str
    source_sha256: str


def read_facts(path: Path) -> OnnxFacts:
    """What the ONNX file at `path` says of itself.

    Raises:
        InputError: it is none.
    """
    model = read_graph(path)
    return OnnxFacts(
        signature=read_signature(model),
        precision=_precision(model),
        fused=any(node.domain == DOMAIN for node in model.graph.node),
        source=read_metadata(model, "apa.source") or "",
        source_sha256=read_metadata(model, "apa.source_sha256") or "",
    )


def _precision(model: onnx.ModelProto) -> str:
    if any(node.op_type in _INTEGER_MATHS for node in model.graph.node):
        return "int8"
    sizes: dict[int, int] = {}
    for tensor in model.graph.initializer:
        sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + int(np.prod(tensor.dims, dtype=np.int64))
    halves = [name for name, element in HALF_ELEMENT.items() if sizes.get(element)]
    return halves[0] if halves else "fp32"


def match_inputs(signature: Signature, feed: Mapping[str, np.ndarray], name: str) -> dict[str, str]:
    """The file's input name -> the feed's; one input each may differ in name.

    Raises:
        InputError: names, types or shapes do not go together.
    """
    wanted = [spec.name for spec in signature.inputs]
    if set(wanted) != set(feed) and not len(wanted) == len(feed) == 1:
        saw = f"{name} with inputs {', '.join(wanted)}"
        raise InputError(saw, f"inputs {', '.join(feed)}, as of the reference", "Compare the same interface.")
    names = {w: w for w in wanted} if set(wanted) == set(feed) else {wanted[0]: next(iter(feed))}
    for spec in signature.inputs:
        _check_type(spec, feed[names[spec.name]].dtype, name)
        _check_shape(spec, feed[names[spec.name]].shape, name)
    return names


def _check_type(spec: TensorSpec, given: np.dtype, name: str) -> None:
    kind = spec.numpy_dtype
    if kind == given or (is_float(kind) and is_float(given)):
        return
    pixels = "Pass --preprocess as for the export." if kind == np.uint8 else "Leave --preprocess out."
    do = pixels if np.uint8 in (kind, given) else "Compare the same interface."
    raise InputError(f"{name}: input {spec.name} of type {kind}", f"{given}, as of the reference", do)


def _check_shape(spec: TensorSpec, given: tuple[int, ...], name: str) -> None:
    if spec.dims is None or fits_dims(given, spec.dims):
        return
    shape = ", ".join("?" if isinstance(dim, str) else str(dim) for dim in spec.dims)
    saw = f"{name}: input {spec.name} of shape ({shape})"
    do = "Pass --input-shape, --batch or --inputs that fit both."
    raise InputError(saw, f"a shape that takes {given}, as of the reference", do)
