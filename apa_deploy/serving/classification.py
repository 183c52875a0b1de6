"""The classification extension: scores become the K best as strings "score:index" or "score:index:label"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import RequestError


def best_classes(scores: np.ndarray, count: int, labels: Sequence[str], *, batched: bool) -> np.ndarray:
    """The `count` best of each row (of the whole array where not `batched`), best first, as strings.

    Raises:
        RequestError: the output holds no numbers.
    """
    if scores.dtype.kind not in "fiu":
        raise RequestError("classification of an output without scores", "numbers", "Leave classification out.")
    rows = scores.reshape(len(scores) if batched and scores.ndim else 1, -1)
    texts = [[_text(row, at, labels) for at in _best(row, count)] for row in rows]
    return np.array(texts if batched else texts[0], np.object_)


def _best(row: np.ndarray, count: int) -> np.ndarray:
    descending = np.argsort(-row.astype(np.float64), kind="stable")
    return descending[:count]


def _text(row: np.ndarray, at: int, labels: Sequence[str]) -> str:
    score = f"{row[at]:f}" if row.dtype.kind == "f" else f"{row[at]}"
    return f"{score}:{at}:{labels[at]}" if at < len(labels) else f"{score}:{at}"
