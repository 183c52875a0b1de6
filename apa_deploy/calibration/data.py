"""The inputs to calibrate on: read, checked, and split into those that set the ranges and those that judge them.

FILE.npz     an array an input by its name, rows are samples; `y` or `labels`: the true classes
FILE.npy     the only input
FOLDER       images, where the network takes pixels (--preprocess)
pkg.mod:fn   gives samples or batches: arrays, {name: array}, or (one of these, labels)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from ..errors import InputError
from ..progress import notice
from ..tensors.inputs import read_arrays
from ..tensors.signature import Feed
from ..verification.data import call_loader, read_given
from ..verification.pictures import Pictures, detector_rows, pictures_in

FEWEST, ENOUGH = 16, 32
SAMPLES = 256
_LABELS = ("y", "labels")
# Every fourth is held back; never fewer than this, or one outlier would decide.
_HELD_BACK, _EVERY = 8, 4
# One number so much larger than most samples' largest takes the codes of all others.
_OUTLIER = 100


class CalibrationError(InputError):
    """Calibration data that cannot be used. `origin`: where it came from."""

    def __init__(self, origin: str, saw: str, wanted: str, do: str) -> None:
        super().__init__(f"--calibration {origin}: {saw}", wanted, do)
        self.origin = origin


@dataclass(frozen=True)
class CalibrationData:
    """`feed`: inputs by name, N rows each, finite, of the model's types. `labels`: (N,) classes, or None."""

    feed: Feed
    labels: np.ndarray | None
    origin: str

    def __len__(self) -> int:
        return len(next(iter(self.feed.values())))

    @property
    def sha256(self) -> str:
        """Of every name, type, shape and number."""
        digest = hashlib.sha256()
        for name, array in sorted(self.feed.items()):
            digest.update(f"{name} {array.dtype} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def split(self) -> tuple[CalibrationData, CalibrationData]:
        """Those that set the ranges, and those that judge: every fourth, or more often where there are few."""
        every = max(2, min(_EVERY, len(self) // _HELD_BACK))
        held = np.arange(len(self)) % every == every - 1
        return self._where(~held), self._where(held)

    def _where(self, chosen: np.ndarray) -> CalibrationData:
        labels = None if self.labels is None else self.labels[chosen]
        return CalibrationData({name: array[chosen] for name, array in self.feed.items()}, labels, self.origin)


def read_calibration(
    text: str, inputs: Sequence[onnx.ValueInfoProto], *, samples: int = SAMPLES, pictures: Pictures | None = None
) -> CalibrationData:
    """What `--calibration` names, as the graph's `inputs` take it.

    Args:
        samples: at most so many are taken, evenly spread: data sorted by class is common.
        pictures: how to make an input of an image file; None: the network takes none.

    Raises:
        CalibrationError: it cannot be read, or does not fit.
    """
    path, names = Path(text), [value.name for value in inputs]
    for value in inputs:
        if not value.type.tensor_type.shape.dim:
            saw, wanted = f"input {value.name} has no batch axis", "inputs whose first axis counts the samples"
            raise CalibrationError(text, saw, wanted, "Make it a constant, or use --precision fp16.")
    if text and path.is_dir():
        arrays = _of_folder(path, names, samples, pictures)
    elif path.suffix == ".npy" and path.is_file():
        arrays = {_only(names, text): _load_npy(path)}
    elif path.is_file():
        arrays = read_arrays(path)
    elif ":" in text:
        arrays = _of_function(text, inputs, samples)
    else:
        wanted = "an .npz or .npy file, a folder of images, or package.module:function"
        raise CalibrationError(text, "no such file", wanted, "Check the path.")
    labels = next((arrays.pop(name) for name in _LABELS if name in arrays and name not in names), None)
    feed = {value.name: _check_array(value, arrays, text) for value in inputs}
    if all((array == array[:1]).all() for array in feed.values()):  # one alone may be, as pictures' sizes
        saw = f"{len(next(iter(feed.values())))} samples that are all the same"
        raise CalibrationError(text, saw, "samples like those of use", "Check how the data was made.")
    return _spread(CalibrationData(feed, _check_labels(labels, text), text), samples)


def _only(names: Sequence[str], text: str) -> str:
    if len(names) != 1:
        raise CalibrationError(
            text, "one array", f"arrays {', '.join(names)}", "Save them by name in an .npz file."
        )
    return names[0]


def _load_npy(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)  # a file too short is refused
        return np.array(array)
    except (OSError, ValueError, EOFError) as error:
        raise CalibrationError(str(path), str(error), "an .npy file", "Write it with numpy.save.") from error


def _of_folder(path: Path, names: Sequence[str], samples: int, pictures: Pictures | None) -> Feed:
    if pictures is None:
        saw, do = (
            "a folder, for a network that takes no pixels",
            "Give --preprocess too, or save arrays in an .npz.",
        )
        raise CalibrationError(str(path), saw, "arrays as the network takes them", do)
    if pictures.detector:
        return detector_rows(path, pictures, samples)
    chosen = list(pictures_in(path, pictures, most=samples))
    feed = {_only(names, str(path)): np.stack([image for image, _ in chosen])}
    labels = [label for _, label in chosen if label is not None]
    return {**feed, "labels": np.array(labels)} if len(labels) == len(chosen) else feed


def _of_function(text: str, inputs: Sequence[onnx.ValueInfoProto], samples: int) -> Feed:
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in inputs}
    parts: dict[str, list[np.ndarray]] = {}
    count = 0
    for given in call_loader(text, "--calibration"):
        value, labels = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        named = dict(value) if isinstance(value, dict) else {_only(list(ranks), text): value}
        named |= {} if labels is None else {"labels": labels}
        rows = {name: read_given(one, f"--calibration {text}") for name, one in named.items()}
        # One sample without a batch axis is a batch of one; so is a label.
        rows = {name: one[None] if one.ndim < ranks.get(name, 1) else one for name, one in rows.items()}
        if not rows or not all(map(len, rows.values())):
            raise CalibrationError(text, "an empty batch", "batches of samples", "Check the function.")
        for name, array in rows.items():
            parts.setdefault(name, []).append(array)
        count += len(next(iter(rows.values())))
        if count >= 4 * samples:  # of an endless loader enough to choose from
            break
    if not parts:
        raise CalibrationError(text, "no batch at all", "batches of samples", "Check the function.")
    try:
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}
    except ValueError as error:
        raise CalibrationError(text, str(error), "batches of one shape", "Check the function.") from error


def _check_array(value: onnx.ValueInfoProto, arrays: Feed, text: str) -> np.ndarray:
    dims = [d.dim_value or None for d in value.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = f"(N, {', '.join(str(d or '?') for d in dims[1:])})"
    wanted = f"{value.name} of shape {shape} and type {dtype}"
    if value.name not in arrays:
        saw = f"arrays {', '.join(sorted(arrays)) or 'none'}"
        do = f": numpy.savez(FILE, {value.name}=...)" if Path(text).is_file() else ""
        raise CalibrationError(text, saw, wanted, f"Name it so{do}.")
    array = arrays[value.name]
    fits = array.ndim == len(dims) and all(d in (None, n) for d, n in zip(dims[1:], array.shape[1:], strict=True))
    same_kind = array.dtype == dtype or (dtype.kind == "f" and array.dtype.kind == "f")
    if not fits or not same_kind:
        saw = f"{value.name} of shape {array.shape} and type {array.dtype}"
        raise CalibrationError(text, saw, wanted, "Give samples as the exported file takes them.")
    if len(array) < FEWEST:
        do = f"Give more; about {SAMPLES}, like those of use, are good."
        raise CalibrationError(text, f"{len(array)} samples", f"{FEWEST} or more", do)
    with np.errstate(over="ignore"):  # infinite as the input's type is refused below
        array = np.ascontiguousarray(array, dtype=dtype)
    if dtype.kind == "f":
        peaks = np.abs(array.reshape(len(array), -1)).max(axis=1)
        if not np.isfinite(peaks).all():
            saw = f"NaN or infinity in {value.name}, sample {int(np.argmin(np.isfinite(peaks)))}"
            raise CalibrationError(text, saw, f"finite numbers of {dtype}", "Check how the data was made.")
        highest = int(peaks.argmax())
        if 0 < _OUTLIER * float(np.median(peaks)) < peaks[highest]:
            notice(f"{value.name} reaches {peaks[highest]:.3g} in sample {highest}, {np.median(peaks):.3g} in most")
    return array


def _check_labels(labels: np.ndarray | None, text: str) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        saw = f"labels of shape {labels.shape} and type {labels.dtype}"
        raise CalibrationError(text, saw, "one whole number a sample", "Give the index of the true class.")
    if labels.min(initial=0) < 0:
        do = "Give the index of the true class, or leave them out."
        raise CalibrationError(text, f"a label of {labels.min()}", "0 or more", do)
    return labels.astype(np.int64)


def _spread(data: CalibrationData, samples: int) -> CalibrationData:
    lengths = {name: len(array) for name, array in data.feed.items()}
    lengths |= {} if data.labels is None else {"y": len(data.labels)}
    if len(set(lengths.values())) != 1:
        saw = ", ".join(f"{name} of {n} samples" for name, n in lengths.items())
        raise CalibrationError(data.origin, saw, "arrays of one length", "Check how the data was made.")
    chosen = _evenly(len(data), samples)
    labels = None if data.labels is None else data.labels[chosen]
    return CalibrationData({name: array[chosen] for name, array in data.feed.items()}, labels, data.origin)


def _evenly(count: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int))


def split_rows(feed: Feed, size: int) -> Iterator[Feed]:
    """Rows of `feed`, `size` at a time; a last batch that is short is filled up from the first rows."""
    count = len(next(iter(feed.values())))
    for start in range(0, count, size):
        rows = np.arange(start, start + size) % count
        yield {name: array[rows] for name, array in feed.items()}
