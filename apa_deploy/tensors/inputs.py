"""Inputs to judge by: seeded ones that reach the activations' negative tail, or the user's own.

| input                      | seeded with                                                        |
| -------------------------- | ------------------------------------------------------------------ |
| an image of floats         | noise, coarse blocks and an offset, as convolutions average pure noise away |
| an image of bytes          | the same, 128 + 64 * image                                         |
| other floats               | standard normal numbers                                            |
| indices of a table         | integers in [0, rows) of the smallest                              |
| other integers, booleans   | 0 and 1                                                            |
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..detection.spec import IMAGES, VALID
from ..errors import InputError
from ..files import SourceError, open_regular
from .signature import Feed, Shape, Signature, TensorSpec

# Natural contrast, strong contrast that drives units deep into both tails, and a faint image.
_CONTRASTS = (1.0, 4.0, 0.1)
_LARGEST_ARRAYS = 16 << 30  # bytes, unpacked
_BLOCK = 8  # pixels of equal coarse structure: convolutions average pure noise away


def seeded_feeds(signature: Signature, batch: int = 2, seed: int = 0) -> list[Feed]:
    """Three batches for every input, one a contrast; an input with a fixed batch keeps it.

    A detector gets a photograph instead: noise holds nothing to be detected.

    Raises:
        InputError: nothing says how large an input is.
    """
    if signature.photograph:
        return [_photograph(signature, batch)]
    generators = [np.random.default_rng(seed + i) for i in range(len(signature.inputs))]
    return [
        {
            spec.name: _draw(generator, spec, batch, contrast)
            for spec, generator in zip(signature.inputs, generators, strict=True)
        }
        for contrast in _CONTRASTS
    ]


def one_ulp_off(feed: Feed) -> Feed:
    """Every second float32 of `feed` one unit in its last place further from 0; all else as it is."""

    def change(array: np.ndarray) -> np.ndarray:
        if array.dtype != np.float32:
            return array
        odd = np.arange(array.size).reshape(array.shape) % 2 == 1
        return np.where(odd & (array != 0), np.nextafter(array, np.copysign(np.float32(np.inf), array)), array)

    return {name: change(array) for name, array in feed.items()}


def _photograph(signature: Signature, batch: int) -> Feed:
    """The photograph, in the form that the signature says: ours, bytes, or RGB of 0 to 1 as everybody else's."""
    from ..detection.pictures import photograph_feed, photograph_within

    first = signature.first
    count = first.fixed_batch or batch
    if [spec.name for spec in signature.inputs] == [IMAGES, VALID]:
        return photograph_feed(first.image, count)
    picture = photograph_within(first.image)
    if first.dtype != "uint8":
        whole = np.full((*first.image[1:], 3), 114, np.uint8)  # the grey with which YOLO pads
        whole[: picture.shape[0], : picture.shape[1]] = picture
        picture = whole
    pictures = np.repeat(picture[None] if first.channels_last else picture.transpose(2, 0, 1)[None], count, axis=0)
    return {first.name: pictures if first.dtype == "uint8" else (pictures / 255).astype(first.numpy_dtype)}


def _draw(generator: np.random.Generator, spec: TensorSpec, batch: int, contrast: float) -> np.ndarray:
    shape, dtype = spec.shape(batch), spec.numpy_dtype
    if spec.is_image:
        images = contrast * _image(generator, spec.image, shape[0])
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if spec.channels_last else images
        if dtype == np.uint8:
            images = np.clip(np.rint(128 + 64 * images), 0, 255)
        return images.astype(dtype) if is_float(dtype) or dtype == np.uint8 else np.greater(images, 0).astype(dtype)
    if spec.rows:
        return generator.integers(0, spec.rows, shape).astype(dtype)
    values = contrast * generator.standard_normal(shape)
    return np.asarray(values if is_float(dtype) else np.greater(values, 0), dtype=dtype)


def _image(generator: np.random.Generator, shape: Shape, batch: int) -> np.ndarray:
    channels, height, width = shape
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    coarse = generator.standard_normal((batch, channels, rows, columns))
    blocks = coarse.repeat(_BLOCK, axis=2).repeat(_BLOCK, axis=3)[:, :, :height, :width]
    offset = generator.standard_normal((batch, channels, 1, 1))
    return 0.5 * generator.standard_normal((batch, *shape)) + blocks + offset


def is_float(dtype: np.dtype) -> bool:
    """Whether a type is floating, bfloat16 among them, which numpy calls void."""
    return bool(np.issubdtype(dtype, np.floating)) or dtype.name == "bfloat16"


def user_feeds(path: Path, signature: Signature) -> list[Feed]:
    """The arrays of an .npz file, one for each input by its name, as one feed.

    Raises:
        InputError: the file is unreadable, or an array is missing, of another shape or type, or not finite.
    """
    arrays = read_arrays(path)
    missing = [spec.name for spec in signature.inputs if spec.name not in arrays]
    if missing:
        raise InputError(f"{path} with arrays {sorted(arrays)}", f"an array {missing[0]!r}", "Name it so in savez.")
    return [{spec.name: as_wanted(arrays[spec.name], spec, str(path)) for spec in signature.inputs}]


def as_wanted(array: np.ndarray, spec: TensorSpec, origin: str) -> np.ndarray:
    """`array` in the type of the input that `spec` describes.

    Raises:
        InputError: its rank or a fixed size differs, it is no array of finite numbers, or no bytes where pixels are
            wanted.
    """
    saw = f"{origin}: {spec.name} of shape {array.shape} and type {array.dtype}"
    numbers = np.issubdtype(array.dtype, np.number) or array.dtype == bool
    if not numbers or not array.size or not np.isfinite(array).all():
        raise InputError(saw, "finite numbers", "Check how the data was made.")
    if spec.dims is not None and not fits_dims(array.shape, spec.dims):
        wanted = ", ".join("N" if axis == 0 and isinstance(d, str) else str(d) for axis, d in enumerate(spec.dims))
        raise InputError(saw, f"finite numbers of shape ({wanted})", "Give samples in the layout of the network.")
    if spec.dtype == "uint8" and array.dtype != np.uint8:
        raise InputError(saw, "uint8 pixels", "Save the pixels themselves.")
    return array.astype(spec.numpy_dtype)


def fits_dims(shape: Shape, dims: tuple[int | str, ...]) -> bool:
    """Whether a shape has the rank and the fixed sizes of `dims`."""
    sizes = zip(dims, shape, strict=False)
    return len(dims) == len(shape) and all(isinstance(d, str) or d == n for d, n in sizes)


def read_arrays(path: Path) -> Feed:
    """The arrays of an .npz file.

    Raises:
        InputError: it is none.
    """
    try:
        with open_regular(path) as opened:
            if not zipfile.is_zipfile(opened):  # NumPy would speak of pickles, and of how to load them unsafely
                raise ValueError("no .npz archive, or one cut short")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                _check_sizes(file.zip)
                return {key: file[key] for key in file.files}
    except SourceError as error:
        raise InputError(error.saw, "an .npz file of arrays", error.do) from error
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{path}: {error}", "an .npz file of arrays", "Write it with numpy.savez.") from error


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Raise a `ValueError` for members that unpack to more than memory has, or that promise more than they hold."""
    members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    if sum(info.file_size for info in members) > _LARGEST_ARRAYS:
        raise ValueError(f"more than {_LARGEST_ARRAYS >> 30} GB of arrays")
    for info in members:
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects, not numbers")
        if math.prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError(f"{info.filename} promises the shape {shape} and holds {info.file_size} bytes")
