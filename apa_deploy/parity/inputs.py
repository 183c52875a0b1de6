"""Inputs to judge by: seeded ones that reach the activations' negative tail, or the user's own."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..loading.load import InputSpec, Shape

Feed = dict[str, np.ndarray]
INPUT = "input"
# Natural contrast, strong contrast that drives units deep into both tails, and a faint image.
_CONTRASTS = (1.0, 4.0, 0.1)
_BLOCK = 8  # pixels of equal coarse structure: convolutions average pure noise away


def seeded_feeds(name: str, spec: InputSpec, batch: int = 2, seed: int = 0) -> list[Feed]:
    """Three batches of images as `spec` says: noise, blocks and an offset, per contrast."""
    generator = np.random.default_rng(seed)
    return [{name: _as_given(c * _image(generator, spec.image, batch), spec)} for c in _CONTRASTS]


def _as_given(images: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Normalised images (N, C, H, W) in the layout and type that the graph takes."""
    if spec.dtype == "uint8":
        images = np.clip(np.rint(128 + 64 * images), 0, 255)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1) if spec.channels_last else images).astype(spec.dtype)


def _image(generator: np.random.Generator, shape: Shape, batch: int) -> np.ndarray:
    channels, height, width = shape
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    coarse = generator.standard_normal((batch, channels, rows, columns))
    blocks = coarse.repeat(_BLOCK, axis=2).repeat(_BLOCK, axis=3)[:, :, :height, :width]
    offset = generator.standard_normal((batch, channels, 1, 1))
    return 0.5 * generator.standard_normal((batch, *shape)) + blocks + offset


def user_feeds(path: Path, name: str, spec: InputSpec) -> list[Feed]:
    """The array `name` of an .npz file, a batch of what `spec` says, as one feed.

    Raises:
        InputError: the file is unreadable or holds no such array of finite numbers.
    """
    arrays = read_arrays(path)
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
    if spec.dtype == "uint8" and array.dtype != np.uint8:
        raise InputError(f"{path}: {name} of type {array.dtype}", "uint8 pixels", "Save the pixels themselves.")
    return [{name: array.astype(spec.dtype)}]


def read_arrays(path: Path) -> Feed:
    """The arrays of an .npz file.

    Raises:
        InputError: it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {error}", "an .npz file of arrays", "Write it with numpy.savez.") from error
