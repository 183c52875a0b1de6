"""What an artifact is fed: read from the ONNX file, from the passport beside it, or from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import helper

from ..errors import InputError
from ..graph.read import read_graph
from ..measure.subject import ONLY
from ..records.passport import PassportError, passport_path, read_passport
from ..runtimes.artifacts import ENGINE, ONNX, OPENVINO, artifact_kind
from ..tensors.signature import BATCH, Shape, TensorSpec, parse_input


def feeds_of(path: Path, sample: Shape | None, given: Sequence[str] = ()) -> tuple[TensorSpec, ...]:
    """The inputs of the artifact at `path`; none for a checkpoint, which knows them itself.

    Args:
        sample: sizes of one sample (of an image: channels, height, width) where the user gave them; else the
            passport's.
        given: `NAME=SHAPE` of single inputs, as of --input.

    Raises:
        InputError: the file is unreadable, it has no input of that name, or nothing says how large its inputs are.
    """
    sample, kind = sample or _of_passport(path), artifact_kind(path)
    named = {spec.name: spec.sample for spec in map(parse_input, given)}
    if kind is ONNX:
        inputs = [_describe_input(value) for value in _inputs(path)]
    elif kind is OPENVINO:
        from ..runtimes.openvino import read_inputs

        inputs = read_inputs(path)
    else:
        return (TensorSpec(ONLY, "float32", (BATCH, *sample)),) if kind is ENGINE and sample else ()
    known = [name for name, *_ in inputs]
    if unknown := sorted(named.keys() - set(known)):
        raise InputError(f"--input {unknown[0]}", f"an input of {path.name}: {', '.join(known)}", "Name it so.")
    return tuple(_feed(*one, named.get(one[0]) or sample, path.name) for one in inputs)


def _of_passport(path: Path) -> Shape | None:
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


def _feed(input_name: str, dims: list[int | None], dtype: str, sample: Shape | None, name: str) -> TensorSpec:
    if None in dims[1:] and sample and len(dims) == len(sample) + 1:
        first, *layouts = dims[:1], sample, (*sample[1:], sample[0])
        fitting = [s for s in layouts if all(d in (None, n) for d, n in zip(dims[1:], s, strict=True))]
        dims = [*first, *fitting[0]] if fitting else dims
    if None in dims[1:]:
        shape = ", ".join("?" if d is None else str(d) for d in dims)
        saw = f"{name}: input {input_name} of shape ({shape}), and no passport that fits"
        do = f"Pass --input {input_name}=SHAPE of one sample, or keep the passport beside the file."
        raise InputError(saw, "its sizes", do)
    return TensorSpec(input_name, dtype, tuple(BATCH if size is None else size for size in dims))
