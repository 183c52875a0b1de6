"""Inputs to judge by: seeded ones that reach the activations' negative tail, or the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..model import Shape

Feed = dict[str, np.ndarray]
# Natural contrast, strong contrast that drives units deep into both tails, and a faint image.
_CONTRASTS = (1.0, 4.0, 0.1)
_BLOCK = 8  # pixels of equal coarse structure: convolutions average pure noise away


def seeded_feeds(name: str, shape: Shape, batch: int = 2, seed: int = 0) -> list[Feed]:
    """Three batches of float32 images of shape (batch, C, H, W): noise, blocks and an offset, per contrast."""
    generator = np.random.default_rng(seed)
    return [{name: (c * _image(generator, shape, batch)).astype(np.float32)} for c in _CONTRASTS]


def _image(generator: np.random.Generator, shape: Shape, batch: int) -> np.ndarray:
    channels, height, width = shape
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    coarse = generator.standard_normal((batch, channels, rows, columns))
    blocks = coarse.repeat(_BLOCK, axis=2).repeat(_BLOCK, axis=3)[:, :, :height, :width]
    offset = generator.standard_normal((batch, channels, 1, 1))
    return 0.5 * generator.standard_normal((batch, *shape)) + blocks + offset


def user_feeds(path: Path, name: str) -> list[Feed]:
    """The array `name` of an .npz file, shape (N, C, H, W), as one feed.

    Raises:
        InputError: the file is unreadable or holds no such array of finite numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {error}", "an .npz file of arrays", "Write it with numpy.savez.") from error
    if name not in arrays:
        raise InputError(f"{path} with arrays {sorted(arrays)}", f"an array {name!r}", "Name it so in savez.")
    array = arrays[name]
    if (
        array.ndim != 4
        or not np.issubdtype(array.dtype, np.number)
        or not np.isfinite(array).all()
        or not len(array)
    ):
        saw = f"{path}: {name} of shape {array.shape} and type {array.dtype}"
        raise InputError(saw, "finite numbers of shape (N, C, H, W)", "Check how the file was made.")
    return [{name: array.astype(np.float32)}]
