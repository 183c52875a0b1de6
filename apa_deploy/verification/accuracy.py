"""Correct answers on labelled data: first class, first five, and by how often a class was seen in training.

many: more than 100 training images; medium: 20 to 100; few: fewer than 20 (upstream's per_shot_acc).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..report.record import Accuracy

_MANY, _FEW, _TOP = 100, 20, 5


def accuracies(runner: str, scores: np.ndarray, labels: np.ndarray, counts: Sequence[int] | None) -> list[Accuracy]:
    """Of all samples, and of each group that has any.

    Args:
        scores: (N, C), any scale; NaN is never right.
        labels: (N,) true classes.
        counts: C training images, or None for no groups.

    Raises:
        InputError: a label is no class.
    """
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        saw, do = (
            f"labels from {labels.min()} to {labels.max()}",
            "Check the labels, or the names of the subfolders.",
        )
        raise InputError(saw, f"classes 0 to {scores.shape[1] - 1}", do)
    groups = {"all": np.ones(len(labels), bool)} | ({} if counts is None else _groups(np.asarray(counts)[labels]))
    rank = _ranks(scores, labels)
    top5 = scores.shape[1] > _TOP
    return [
        Accuracy(
            runner=runner,
            group=group,
            samples=int(member.sum()),
            top1=float((rank[member] == 0).mean()),
            top5=float((rank[member] < _TOP).mean()) if top5 else None,
        )
        for group, member in groups.items()
        if member.any()
    ]


def _groups(seen: np.ndarray) -> dict[str, np.ndarray]:
    return {"many": seen > _MANY, "medium": (seen >= _FEW) & (seen <= _MANY), "few": seen < _FEW}


def _ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes score above the true one; of equal scores the lower index is first, as in argmax."""
    true = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    ranks: np.ndarray = ((scores > true) | ((scores == true) & earlier)).sum(axis=1)
    return np.where(np.isnan(scores).any(axis=1), scores.shape[1], ranks)
