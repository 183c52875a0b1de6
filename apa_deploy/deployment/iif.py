"""Inverse image frequency: constants added to the logits of a classifier trained on a long tail.

n: training images of a class; N: of all. Source: upstream's post-processing at evaluation (`--criterion iif`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

Floats = NDArray[np.float64]


def _normit(share: Floats) -> Floats:
    return -np.array([NormalDist().inv_cdf(float(s)) for s in share])


VARIANTS: dict[str, Callable[[Floats], Floats]] = {
    "raw": lambda n: np.log(n.sum() / n),
    "smooth": lambda n: np.log((n.sum() + 1) / (n + 1)) + 1,
    "rel": lambda n: np.log((n.sum() - n) / n),
    "normit": lambda n: _normit(n / n.sum()),
    "gombit": lambda n: -np.log(-np.log(1 - n / n.sum())),
    "base2": lambda n: np.log2(n.sum() / n),
    "base10": lambda n: np.log10(n.sum() / n),
}


def constants(variant: str, counts: Sequence[int]) -> Tensor:
    """The constants of every class: shape (1, C), float32, as upstream stores them.

    Raises:
        InputError: the variant is unknown, or a class without images would get an infinite constant.
    """
    if variant not in VARIANTS:
        raise InputError(f"--iif {variant}", f"one of {', '.join(VARIANTS)}", "Training's default is rel.")
    n = np.asarray(counts, dtype=np.float64)
    empty = [i for i, count in enumerate(counts) if count == 0]
    if empty and variant != "smooth":
        raise InputError(
            f"classes without training images: {empty[:8]}",
            "at least one each: their constant is infinite",
            "Check the counts, or take --iif smooth.",
        )
    if len(counts) < 2:
        raise InputError(f"{len(counts)} class", "two classes or more", "Check the counts.")
    return torch.from_numpy(VARIANTS[variant](n)).float().reshape(1, -1)
