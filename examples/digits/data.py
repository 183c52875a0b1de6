"""scikit-learn's handwritten digits as 32x32 images, with a long-tailed training split.

1,797 real 8x8 scans. A quarter is held out, balanced; of the rest, class c keeps 0.1^(c/9) of the images of
class 0, as long-tailed benchmarks do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HELD_OUT = Path(__file__).with_name("held_out.npz")  # images (N, 8, 8), 0 to 16; labels (N,)
CLASSES = 10
_SHARE_HELD_OUT = 0.25
_TAIL = 0.1
_MEAN, _STD = 0.3053, 0.3760  # of the pixels, scaled to 0..1


@dataclass(frozen=True)
class Split:
    """Images of shape (N, 3, 32, 32), float32, normalised; labels of shape (N,)."""

    images: Tensor
    labels: Tensor


def held_out() -> Split:
    """The balanced test images, which lie beside this file: the demo needs no scikit-learn."""
    with np.load(HELD_OUT) as stored:
        return Split(
            torch.from_numpy(_as_network_input(stored["images"])), torch.from_numpy(stored["labels"]).long()
        )


def long_tailed() -> Split:
    """The training images, few of the late classes; needs scikit-learn."""
    return split_digits()[0]


def split_digits() -> tuple[Split, Split]:
    """Training and test images out of scikit-learn's set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = _as_network_input(digits.images), digits.target
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = [], []
    for c in range(CLASSES):
        members = order[labels[order] == c]
        held = int(len(members) * _SHARE_HELD_OUT)
        rest = members[held:]
        test += list(members[:held])
        train += list(rest[: round(len(rest) * _TAIL ** (c / (CLASSES - 1)))])
    return _take(images, labels, train), _take(images, labels, test)


def _take(images: np.ndarray, labels: np.ndarray, index: list[int]) -> Split:
    return Split(torch.from_numpy(images[index]), torch.from_numpy(labels[index]).long())


def _as_network_input(images: np.ndarray) -> np.ndarray:
    """(N, 8, 8) with values 0..16 -> (N, 3, 32, 32), each pixel four times as wide and high."""
    large = (images / 16).repeat(4, axis=1).repeat(4, axis=2)
    normalised = (large - _MEAN) / _STD
    return np.repeat(normalised[:, None], 3, axis=1).astype(np.float32)
