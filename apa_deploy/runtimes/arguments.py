"""Arrays that a caller gives, beside what a model declares: read in another way they mean something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError

Size = int | str | None  # a name or None: any


def as_declared(name: str, given: Any, dtype: np.dtype[Any] | None, shape: Sequence[Size]) -> np.ndarray:
    """`given` as a contiguous, aligned array; never cast, for a silent cast would hide a mistake.

    Args:
        dtype: what the model takes; None: what numpy cannot tell.
        shape: a number for each size that is fixed; () where the model does not say.

    Raises:
        InputError: another type, byte order, rank or size than the model's.
    """
    if isinstance(given, np.ma.MaskedArray):
        raise InputError(f"{name}: a masked array", "a plain one", "Fill it first: array.filled(value).")
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise InputError(f"{name}: {error}", "an array", "Make one with numpy first.") from error
    saw = f"{name} of type {array.dtype} and shape {array.shape}"
    wanted = f"{dtype or 'its own type'} and {_show(shape)}"
    if dtype is not None and dtype != array.dtype:
        if array.dtype.newbyteorder("=") == dtype:
            saw = f"{name} of type {array.dtype.str} ({dtype} in the other byte order)"
            raise InputError(saw, f"{dtype} in this machine's byte order", f"Give array.astype('{dtype}').")
        raise InputError(saw, wanted, f"Convert it first, e.g. array.astype('{dtype}').")
    open_or_same = (
        not isinstance(want, int) or want in (-1, got) for want, got in zip(shape, array.shape, strict=False)
    )
    if shape and not (len(shape) == array.ndim and all(open_or_same)):
        raise InputError(saw, wanted, "Give the model's shape; a name stands for any size.")
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])


def _show(shape: Sequence[Size]) -> str:
    return f"shape ({', '.join('any' if size is None else str(size) for size in shape)})" if shape else "any shape"
