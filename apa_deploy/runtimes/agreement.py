"""Does a rewritten model compute what the original does? Both run once, on seeded inputs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ..graph.layout.swap import BlockedLayoutError
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

_TYPES = {"float": "float32", "double": "float64"}  # others are called as NumPy calls them


def check_agreement(original: Path, rewritten: Path, library: Path, *, coded: bool = False) -> None:
    """Raise `BlockedLayoutError` where an output differs, or no input was found that the original takes.

    `coded`: both have values in 8-bit codes, where a sum may round to the next code.
    """
    feed, wanted = _answer(open_session(original, library=library))
    got = open_session(rewritten, library=library, optimise=False).run(None, feed)
    plain = open_session(original, library=library, optimise=False).run(None, feed) if coded else wanted
    for a, b, c in zip(got, wanted, plain, strict=True):
        if a.shape != b.shape or not (_is_close_in_codes(a, b, c) if coded else _is_close(a, b)):
            raise BlockedLayoutError("the prepared model's outputs differ from the original's")


def _is_close(a: np.ndarray, b: np.ndarray) -> bool:
    largest = np.abs(b[np.isfinite(b)]).max(initial=0)
    return np.allclose(a, b, rtol=0, atol=_TOLERANCE * largest, equal_nan=True)


def _is_close_in_codes(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    """Whether `a` is about as close to `b` as ONNX Runtime's own optimiser is to the file as written, `c`."""
    a, b, c = (np.nan_to_num(v.astype(np.float64)) for v in (a, b, c))
    size = float(np.sqrt(np.square(b).sum()))
    own = min(_OWN * float(np.sqrt(np.square(c - b).sum())), _MOST_CODED * size)
    return float(np.sqrt(np.square(a - b).sum())) <= max(own, _CODED_TOLERANCE * size)


def _answer(session: Any) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    reason = ""
    for limit, size in itertools.product(_LIMITS, _SIZES):
        feed = {value.name: _input(value, size, limit) for value in session.get_inputs()}
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
