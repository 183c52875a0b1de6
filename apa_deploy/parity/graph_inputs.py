"""Inputs for somebody's ONNX graph: as many as it has, of its types and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from ..errors import InputError
from ..graph.recognise.evaluate import FLOATS
from ..loading.load import InputSpec, Shape
from .inputs import Feed, seeded_feeds

_LENGTH = 16  # of open dimensions that nothing says anything about


def graph_feeds(inputs: Sequence[onnx.ValueInfoProto], sample: Shape, batch: int, seed: int = 0) -> list[Feed]:
    """Three feeds of natural, strong and faint contrast. `sample`: dimensions of the first input but for its batch.

    Images are structured as in `seeded_feeds`; other floats are normal; integers are 0 or 1, which no table of
    embeddings is too short for.
    """
    generator = np.random.default_rng(seed)
    first = inputs[0]
    shapes = {first.name: _batched(first, batch, sample)}
    shapes |= {value.name: _batched(value, batch, None) for value in inputs[1:]}
    whole = len(shapes[first.name]) == 4
    images = (
        seeded_feeds(first.name, InputSpec(shapes[first.name][1:]), shapes[first.name][0], seed) if whole else None
    )
    feeds = []
    for i, contrast in enumerate((1.0, 4.0, 0.1)):
        feed = {value.name: contrast * generator.standard_normal(shapes[value.name]) for value in inputs}
        if images:
            feed[first.name] = images[i][first.name]
        feeds.append({value.name: _typed(feed[value.name], value) for value in inputs})
    return feeds


def _batched(value: onnx.ValueInfoProto, batch: int, sample: Shape | None) -> tuple[int, ...]:
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if not dims:
        return ()
    rest = sample if sample is not None else tuple(d or _LENGTH for d in dims[1:])
    return (dims[0] or batch, *rest)


def _typed(array: np.ndarray, value: onnx.ValueInfoProto) -> np.ndarray:
    element = value.type.tensor_type.elem_type
    dtype = helper.tensor_dtype_to_np_dtype(element)
    values = array if element in FLOATS else np.greater(array, 0)
    return np.asarray(values, dtype=dtype)


def user_graph_feeds(path: Path, inputs: Sequence[onnx.ValueInfoProto]) -> list[Feed]:
    """One feed from an .npz file with an array for each input by its name.

    Raises:
        InputError: the file is unreadable, an array is missing, of another rank, or not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {error}", "an .npz file of arrays", "Write it with numpy.savez.") from error
    missing = [value.name for value in inputs if value.name not in arrays]
    if missing:
        raise InputError(f"{path} with arrays {sorted(arrays)}", f"an array {missing[0]!r}", "Name it so in savez.")
    return [{value.name: _checked(arrays[value.name], value, path) for value in inputs}]


def _checked(array: np.ndarray, value: onnx.ValueInfoProto, path: Path) -> np.ndarray:
    dims = value.type.tensor_type.shape.dim
    fixed = [d.dim_value or n for d, n in zip(dims, array.shape, strict=False)]
    if array.ndim != len(dims) or fixed != list(array.shape) or not np.isfinite(array).all():
        has = "x".join(str(d.dim_value or d.dim_param or "?") for d in dims)
        saw = f"{path}: {value.name} of shape {array.shape}"
        raise InputError(saw, f"finite numbers of shape {has}", "Check how the file was made.")
    return array.astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
