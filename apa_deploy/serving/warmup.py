"""First runs of a model: they pay for lazy set-up before a client does, and show whether rows are independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..tensors.signature import ANY, TensorSpec
from .signature import RequestSignature

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]

# Rounding differs with the batch size, by far less than this even in half precision (eps 1e-3, some layers);
# rows that are mixed differ by as much as the inputs do.
_TOLERANCE = 0.02
_LARGEST = 256 << 20  # bytes of inputs to try; a config.pbtxt may allow batches that nobody can send


def warm_up(run: Run, signature: RequestSignature, shape: Sequence[int]) -> None:
    """Run one row and, where the model batches, a full batch, or as much of one as clients will ever send.

    Args:
        shape: sizes for open dimensions behind the batch, e.g. (3, 224, 224); () makes them 1.
    """
    for rows in sorted({1, largest_batch(signature, shape)}):
        run(sample(signature, rows, shape))


def largest_batch(signature: RequestSignature, shape: Sequence[int]) -> int:
    """Rows of a full batch; fewer where its inputs would take more memory than is reasonable."""
    row = sum(array.nbytes for array in sample(signature, 1, shape).values())
    return max(1, min(signature.max_batch, _LARGEST // max(1, row)))


def rows_are_independent(run: Run, signature: RequestSignature, shape: Sequence[int]) -> bool:
    """Whether two different rows give together what each gives alone."""
    both = sample(signature, 2, shape)
    together = run(both)
    for at in range(2):
        alone = run({name: array[at : at + 1] for name, array in both.items()})
        if not all(_agree(together[name], array, at) for name, array in alone.items()):
            return False
    return True


def sample(signature: RequestSignature, rows: int, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Inputs of `rows` rows: normal values from a fixed seed, zeros and ones for integers and booleans."""
    generator = np.random.default_rng(0)
    return {spec.name: _values(spec, _sizes(spec, signature, rows, shape), generator) for spec in signature.inputs}


def _agree(together: np.ndarray, alone: np.ndarray, at: int) -> bool:
    if together.ndim == 0 or len(together) != 2 or together[at : at + 1].shape != alone.shape:
        return False
    if alone.dtype.kind != "f":
        return bool(np.array_equal(together[at : at + 1], alone))
    one, other = together[at : at + 1].astype(np.float64), alone.astype(np.float64)
    finite = np.isfinite(other)
    scale = np.abs(other[finite]).max(initial=0.0)
    return bool(np.allclose(one[finite], other[finite], rtol=0, atol=_TOLERANCE * scale))


def _sizes(spec: TensorSpec, signature: RequestSignature, rows: int, shape: Sequence[int]) -> tuple[int, ...]:
    dims = list(spec.declared)
    if signature.max_batch:
        dims[0] = rows
    behind = list(shape) if len(shape) == len(dims) - 1 else [1] * (len(dims) - 1)
    sizes = [1, *behind][-len(dims) :] if dims else []
    return tuple(size if dim == ANY else dim for dim, size in zip(dims, sizes, strict=True))


def _values(spec: TensorSpec, sizes: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    kind = spec.datatype.dtype.kind
    if kind == "f":
        return generator.standard_normal(sizes).astype(spec.datatype.dtype)
    if kind == "O":
        return np.full(sizes, "", np.object_)
    return generator.integers(0, 2, sizes).astype(spec.datatype.dtype)
