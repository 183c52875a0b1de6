"""Files that tell about classes: how many training images each had, and what it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError

T = TypeVar("T")

# Datasets whose training code renumbers classes by descending count.
LONG_TAILED = ("imagenet_lt", "inat18", "places_lt")


def class_counts(path: Path, classes: int | None) -> list[int]:
    """Counts in the order of the network's outputs: a JSON list, or one number a line.

    Raises:
        InputError: unreadable, negative or fractional counts, or another number of classes.
    """
    values = _entries(path)
    try:
        counts = [int(v) for v in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: {error}", "whole numbers", "Write one count a line, or a JSON list.") from error
    if any(c < 0 or c != float(v) for c, v in zip(counts, values, strict=True)):
        raise InputError(f"{path}: a negative or fractional count", "counts of images", "Check the file.")
    return _checked(path, counts, classes)


def labels_of(path: Path, classes: int | None) -> list[str]:
    """Names in the order of the network's outputs: a JSON list, or one name a line.

    Raises:
        InputError: unreadable, or another number of classes.
    """
    return _checked(path, [str(v) for v in _entries(path)], classes)


def _entries(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}", "a JSON list, or one entry a line", "Check the file.") from error
    return [e.strip() if isinstance(e, str) else e for e in entries if e != ""]


def _checked(path: Path, entries: list[T], classes: int | None) -> list[T]:
    if not entries or (classes is not None and len(entries) != classes):
        raise InputError(
            f"{path} with {len(entries)} entries", f"one for each of {classes} classes", "Check the file."
        )
    return entries
