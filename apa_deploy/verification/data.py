"""The inputs to judge by, batch after batch: seeded, an .npz file, a folder of images, or a Python loader.

Every process reads them again from where they come, so that a data set of any size fits; `Digest` proves that
all processes saw the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from ..errors import InputError
from ..tensors.inputs import as_wanted, read_arrays, seeded_feeds
from ..tensors.signature import Feed, Signature
from .pictures import Pictures, detector_feeds, pictures_in

LABELS = "labels"
_SEEDED, _LOADED = 2, 16


@dataclass(frozen=True)
class Batch:
    """`feed`: inputs by name. `labels`: (N,) true classes, or None."""

    feed: Feed
    labels: np.ndarray | None = None


class Data(BaseModel):
    """Where inputs come from, once the reference is known.

    `text`: an .npz file, a folder, "package.module:function", or None for seeded inputs. `signature`: of the
    network; images, and arrays without a name, are for its first input. `batch`: samples a batch, None for the
    usual; `fixed`: whether a smaller batch is left out.
    """

    text: str | None
    signature: Signature
    batch: int | None = None
    fixed: bool = False
    pictures: Pictures | None = None
    classes: list[str] | None = None

    @property
    def name(self) -> str:
        """The first input."""
        return self.signature.first.name

    @property
    def said(self) -> str:
        """What a report says about them."""
        return self.signature.seeds if self.text is None else Path(self.text).name


def read_batches(data: Data) -> Iterator[Batch]:
    """The batches of `data`, in an order that is always the same.

    Raises:
        InputError: they cannot be read, or do not fit the network.
    """
    usual = 1 if data.signature.photograph else _SEEDED  # the same one again would cost as much and tell nothing
    size = data.batch or (usual if data.text is None else _LOADED)
    if data.text is None:
        yield from (Batch(feed) for feed in seeded_feeds(data.signature, size))
    elif Path(data.text).is_dir():
        assert data.pictures is not None
        if data.pictures.detector:
            yield from (Batch(feed) for feed in detector_feeds(Path(data.text), data.pictures))
            return
        samples = pictures_in(Path(data.text), data.pictures, data.classes)
        yield from _stack_samples(samples, data.name, size, data.fixed)
    elif os.path.lexists(data.text):  # says what is wrong with a pipe or a link to nothing
        yield from _of_npz(Path(data.text), data, size)
    else:
        yield from _of_loader(data.text, data)


def _stack_samples(
    samples: Iterable[tuple[np.ndarray, int | None]], name: str, size: int, fixed: bool
) -> Iterator[Batch]:
    waiting: list[tuple[np.ndarray, int | None]] = []
    for sample in samples:
        waiting.append(sample)
        if len(waiting) == size:
            yield _stack(waiting, name)
            waiting = []
    if waiting and not fixed:
        yield _stack(waiting, name)


def _stack(samples: list[tuple[np.ndarray, int | None]], name: str) -> Batch:
    labels = [label for _, label in samples if label is not None]
    truth = np.array(labels) if len(labels) == len(samples) else None
    return Batch({name: np.stack([image for image, _ in samples])}, truth)


def _of_npz(path: Path, data: Data, size: int) -> Iterator[Batch]:
    arrays = read_arrays(path)
    labels = arrays.pop(LABELS, None)
    names = [spec.name for spec in data.signature.inputs]
    if len(names) == len(arrays) == 1:
        feed = {data.name: next(iter(arrays.values()))}
    else:
        missing = [name for name in names if name not in arrays]
        if missing:
            do = "Name it so in numpy.savez; true classes go into 'labels'."
            raise InputError(f"{path} with arrays {sorted(arrays)}", f"an array {missing[0]!r}", do)
        feed = {name: arrays[name] for name in names}
    length = _common_length(path, feed, labels)
    for start in range(0, length - size + 1 if data.fixed else length, size):
        part = slice(start, start + size)
        truth = None if labels is None else _check_labels(labels[part], path.name)
        yield _check_batch(Batch({k: v[part] for k, v in feed.items()}, truth), data, path.name)


def _common_length(path: Path, feed: Feed, labels: np.ndarray | None) -> int:
    lengths = {k: len(v) if v.ndim else 0 for k, v in feed.items()} | (
        {} if labels is None else {LABELS: len(labels)}
    )
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise InputError(f"{path}: {lengths} samples", "arrays of one length above 0", "Check how it was made.")
    return next(iter(lengths.values()))


def _of_loader(text: str, data: Data) -> Iterator[Batch]:
    """A function without arguments that gives arrays, feeds {name: array}, or pairs of one of these and labels."""
    for given in call_loader(text, "--inputs"):
        inputs, labels = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        named = inputs if isinstance(inputs, dict) else {data.name: inputs}
        feed = {name: read_given(value, text) for name, value in named.items()}
        truth = None if labels is None else _check_labels(read_given(labels, text), text)
        yield _check_batch(Batch(feed, truth), data, text)


def call_loader(text: str, option: str) -> Iterator[Any]:
    """What the function, or the iterable, called "package.module:name" gives.

    Raises:
        InputError: there is none such, or it fails; `option` is what named it.
    """
    module, _, function = text.partition(":")
    wanted = "package.module:function that gives batches"
    try:
        named = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:
        saw, wanted = f"{option} {text}: {error}", f"an .npz file, a folder of images, or {wanted}"
        raise InputError(saw, wanted, "Check the path or the name.") from error
    try:
        yield from named() if callable(named) else named
    except (Exception, SystemExit) as error:
        saw = f"{option} {text}: {type(error).__name__}: {error}"
        raise InputError(saw, wanted, "Mend the function: --debug shows where it failed.") from error


def read_given(value: Any, origin: str) -> np.ndarray:
    """What a loader gives: a tensor, on any device, or whatever NumPy makes an array of numbers of.

    Raises:
        InputError: it is none, or its parts have several lengths.
    """
    try:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{origin}: {error}", "arrays of numbers", "Check the function.") from error
    if array.dtype == object:
        raise InputError(f"{origin}: {type(value).__name__}", "arrays of numbers", "Check the function.")
    return array


def _check_batch(batch: Batch, data: Data, origin: str) -> Batch:
    specs = {spec.name: spec for spec in data.signature.inputs}
    if set(specs) != set(batch.feed):
        saw, wanted = f"{origin} with inputs {', '.join(batch.feed)}", ", ".join(specs)
        raise InputError(saw, wanted, "Name the arrays so.")
    return Batch({k: as_wanted(v, specs[k], origin) for k, v in batch.feed.items()}, batch.labels)


def _check_labels(labels: np.ndarray, origin: str) -> np.ndarray:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        saw = f"{origin}: labels of shape {labels.shape} and type {labels.dtype}"
        raise InputError(saw, "one whole number a sample", "Give the index of the true class.")
    return labels


class Digest:
    """sha256 over all that passed through `of`, and how many batches and samples these were."""

    def __init__(self) -> None:
        self._hash, self.samples, self.batches = hashlib.sha256(), 0, 0

    def of(self, source: Iterable[Batch]) -> Iterator[Batch]:
        """`source`, looked at on its way."""
        for batch in source:
            for name, array in batch.feed.items():
                self._hash.update(f"{name} {array.dtype} {array.shape};".encode())
                self._hash.update(np.ascontiguousarray(array).data)
            self.samples += len(next(iter(batch.feed.values())))
            self.batches += 1
            yield batch

    @property
    def hex(self) -> str:
        """The digest so far."""
        return self._hash.hexdigest()
