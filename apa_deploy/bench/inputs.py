"""What an artifact is fed: read from the ONNX file, from the passport beside it, or from the command line."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from ..errors import InputError
from ..graph.read import read_graph
from ..measure.subject import ONLY
from ..records.passport import PassportError, passport_path, read_passport
from ..runtimes.artifacts import ENGINE, ONNX, OPENVINO, artifact_kind
from ..tensors.signature import BATCH, TensorSpec

Image = tuple[int, ...]
_IMAGE_RANK = 4


def feeds_of(path: Path, image: Image | None) -> tuple[TensorSpec, ...]:
    """The inputs of the artifact at `path`; none for a checkpoint, which knows them itself.

    Args:
        image: channels, height and width where the user gave them; else the passport's.

    Raises:
        InputError: the file is unreadable, or nothing says how large its inputs are.
    """
    image, kind = image or _of_passport(path), artifact_kind(path)
    if kind is ONNX:
        return tuple(_feed(*_describe_input(value), image, path.name) for value in _inputs(path))
    if kind is OPENVINO:
        from ..runtimes.openvino import read_inputs

        return tuple(_feed(*one, image, path.name) for one in read_inputs(path))
    return (TensorSpec(ONLY, "float32", (BATCH, *image)),) if kind is ENGINE and image else ()


def _of_passport(path: Path) -> Image | None:
    try:
        return read_passport(passport_path(path)).input_shape
    except PassportError:
        return None


def _inputs(path: Path) -> list[onnx.ValueInfoProto]:
    graph = read_graph(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _describe_input(value: onnx.ValueInfoProto) -> tuple[str, list[int | None], str]:
    """Name, sizes and numpy's type of an input."""
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return value.name, dims, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name


def _feed(input_name: str, dims: list[int | None], dtype: str, image: Image | None, name: str) -> TensorSpec:
    if None in dims[1:] and image and len(dims) == _IMAGE_RANK:
        first, *layouts = dims[:1], image, (*image[1:], image[0])
        fitting = [s for s in layouts if all(d in (None, n) for d, n in zip(dims[1:], s, strict=True))]
        dims = [*first, *fitting[0]] if fitting else dims
    if None in dims[1:]:
        shape = ", ".join("?" if d is None else str(d) for d in dims)
        saw = f"{name}: input {input_name} of shape ({shape}), and no passport that fits"
        raise InputError(saw, "its sizes", "Pass --input-shape CxHxW, or keep the passport beside the file.")
    return TensorSpec(input_name, dtype, tuple(BATCH if size is None else size for size in dims))
