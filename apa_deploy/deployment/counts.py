"""Files that tell about classes: how many training images each had, and what it is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..files import SourceError, read_text

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
    return _check_entries(path, counts, classes)


def labels_of(path: Path, classes: int | None) -> list[str]:
    """Names in the order of the network's outputs: a JSON list, or one name a line.

    Raises:
        InputError: unreadable, another number of classes, or a name that cannot stand on a line.
    """
    labels = [str(v) for v in _entries(path)]
    check_names(labels, str(path))
    return _check_entries(path, labels, classes)


def check_names(labels: Sequence[str], origin: str) -> None:
    """Refuse class names that shift or garble others wherever a name is a line: in labels.txt, logs, answers.

    Raises:
        InputError: a name is empty, or holds a line break or another character that cannot be seen.
    """
    for i, label in enumerate(labels, 1):
        if not label or not label.isprintable():
            saw = f"{origin}: class name {i} is {label[:80]!r}"
            raise InputError(saw, "a name of visible characters on one line", "Rename it.")


def check_number(labels: Sequence[str] | None, outputs: Mapping[str, Sequence[int]]) -> None:
    """Refuse labels that fit no output; `outputs`: their shapes, -1 where a size is open. A detector's do not tell.

    Raises:
        InputError: no output has as many classes.
    """
    widths = {shape[-1] for shape in outputs.values() if len(shape) > 1}
    if labels and "boxes" not in outputs and widths and min(widths) > 0 and len(labels) not in widths:
        wanted = f"one for each of {' or '.join(map(str, sorted(widths)))} classes"
        raise InputError(f"{len(labels)} labels", wanted, "Correct the file of --labels.")


def _entries(path: Path) -> list[Any]:
    try:
        text = read_text(path, "utf-8-sig")
        entries = json.loads(text) if text.lstrip().startswith("[") else text.rstrip().split("\n")
    except SourceError as error:
        raise InputError(error.saw, "a JSON list, or one entry a line", error.do) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}", "a JSON list, or one entry a line", "Check the file.") from error
    # an empty line is an entry as well: without it the rest would shift
    return [e.strip() if isinstance(e, str) else e for e in entries]


def _check_entries(path: Path, entries: list[T], classes: int | None) -> list[T]:
    if not entries or (classes is not None and len(entries) != classes):
        raise InputError(
            f"{path} with {len(entries)} entries", f"one for each of {classes} classes", "Check the file."
        )
    return entries
