"""Does a rewritten model compute what the original does? Both run once, on seeded inputs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..detection.spec import IMAGES, VALID
from ..graph.layout.coded import find_last_codes
from ..graph.layout.swap import BlockedLayoutError
from ..graph.read import read_graph
from ..tensors.signature import Feed
from .ort_session import open_session

# Tried in this order, until the original takes it: sizes for dimensions that a model leaves open, and integers
# below a limit, which may be indices of a table.
_SIZES = (64, 224, 32, 640)
_LIMITS = (256, 2)

# Not a gate of accuracy: the same float32 maths in another order differs by some 1e-6 of the largest output (a
# gate's normalisation may multiply that by a hundred), while a permuted channel or a lost residual is wrong by 1.
_TOLERANCE = 1e-2

# Of the root of the sums of squares. A code that rounds the other way in one place in three is as much noise as
# quantisation itself, 0.02 to 0.05; what is lost or permuted is noise of 1.
_CODED_TOLERANCE = 0.15
# A network that magnifies such noise (of random weights, say) is allowed what ONNX Runtime itself changes, and half
# as much again: both are sums of as many roundings, none of which knows of the other.
_OWN, _MOST_CODED = 1.5, 0.5

_DIFFERENT = "the prepared model's outputs differ from the original's"
_TYPES = {"float": "float32", "double": "float64"}  # others are called as NumPy calls them


def check_agreement(original: Path, rewritten: Path, library: Path) -> None:
    """Raise `BlockedLayoutError` where an output differs, or no input was found that the original takes."""
    feed, wanted = _answer(open_session(original, library=library))
    got = open_session(rewritten, library=library, optimise=False).run(None, feed)
    if not all(map(_is_close, got, wanted)):
        raise BlockedLayoutError(_DIFFERENT)


def check_coded_agreement(original: Path, rewritten: Path, library: Path) -> None:
    """The same of models with values in 8-bit codes, where a sum may round to the next code.

        inputs -> codes            about as close as ONNX Runtime's own optimiser keeps them
        those codes -> outputs     the same; asked where the outputs themselves are not as close

    Codes alone tell noise from a fault: a detector that chooses among thousands of scores answers with other
    detections, or in another order, where one of them is a code off.
    """
    whole, made = models = read_graph(original, weights=True), read_graph(rewritten, weights=True)
    zeros, first = find_last_codes(whole, made), len(whole.graph.output)
    for model in models:
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in zeros)
    feed, wanted = _answer(open_session(whole, library=library))
    got = open_session(made, library=library, optimise=False).run(None, feed)
    plain = open_session(whole, library=library, optimise=False).run(None, feed)
    offsets = [0] * first + list(zeros.values())
    close = [_is_close_in_codes(*values) for values in zip(got, wanted, plain, offsets, strict=True)]
    if all(close):
        return
    codes = dict(zip(zeros, wanted[first:], strict=True))
    right, tried = (_run_behind(model, codes, feed, library) for model in models)
    if not all(close[first:]) or not all(map(_is_close, tried, right)):
        raise BlockedLayoutError(_DIFFERENT)


def _run_behind(model: onnx.ModelProto, codes: Feed, feed: Feed, library: Path) -> list[np.ndarray]:
    """What `model`, which is changed, makes of these codes. Nobody reads what it makes in their place."""
    kept = [value for value in model.graph.output if value.name not in codes]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    for node in model.graph.node:
        node.output[:] = [f"{name}/made" if name in codes else name for name in node.output]
    for name, value in codes.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.input.append(helper.make_tensor_value_info(name, kind, [None] * value.ndim))
    return open_session(model, library=library, optimise=False).run(None, feed | codes)


def _is_close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    largest = np.abs(b[np.isfinite(b)]).max(initial=0)
    return np.allclose(a, b, rtol=0, atol=_TOLERANCE * largest, equal_nan=True)


def _is_close_in_codes(a: np.ndarray, b: np.ndarray, c: np.ndarray, zero: int = 0) -> bool:
    """Whether `a` is about as close to `b` as ONNX Runtime's own optimiser is to the file as written, `c`.

    `zero`: the code of 0.
    """
    if not a.shape == b.shape == c.shape:
        return False
    a, b, c = (np.nan_to_num(v.astype(np.float64)) - zero for v in (a, b, c))
    size = float(np.sqrt(np.square(b).sum()))
    own = min(_OWN * float(np.sqrt(np.square(c - b).sum())), _MOST_CODED * size)
    return float(np.sqrt(np.square(a - b).sum())) <= max(own, _CODED_TOLERANCE * size)


def _answer(session: Any) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    reason = ""
    for limit, size in itertools.product(_LIMITS, _SIZES):
        feed = {value.name: _input(value, size, limit) for value in session.get_inputs()}
        if {IMAGES, VALID} <= set(feed):  # of our detectors: random sizes would leave no detections
            feed[VALID][:] = feed[IMAGES].shape[:1:-1]
        try:
            return feed, session.run(None, feed)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no other base in common
            reason = str(error).splitlines()[0]
    raise BlockedLayoutError(f"no input was found to compare the prepared model with ({reason})")


def _input(value: Any, size: int, limit: int) -> np.ndarray:
    """The batch is 2, so that a mistake between samples shows."""
    shape = [d if isinstance(d, int) else (size if i else 2) for i, d in enumerate(value.shape)]
    name = value.type.removeprefix("tensor(").removesuffix(")")
    dtype, rng = np.dtype(_TYPES.get(name, name)), np.random.default_rng(0)
    values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, limit, shape)
    return values.astype(dtype)
