"""Is an output, or a channel of it, scaled or shifted? Rounding has no direction; a wrong factor has one.

With r the float64 output, e the error of what is judged, and k a channel (axis 1, such as a class):

    gain of the whole      <e, r> / <r, r>          0.01 where everything is scaled by 1.01
    offset of the whole    <e, 1> / (n * rms(r))    0.01 where a hundredth of the rms is added everywhere
    gain of channel k      the first, of this channel alone

Each is a sum over many roundings, and so far finer than the largest error: 1 % is seen in bf16, whose largest error
may be 7 %. How far it may stray is measured on the baselines, which round the same quantities: e of a baseline,
projected on r channel by channel and sample by sample, has a mean square V, which counts in how far roundings go
together; the sum strays by sqrt(V / <r, r>). A range is what the baseline has, and a multiple of that around it.

Imports numpy alone: a bundle for TensorRT carries this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Arrays = Sequence[np.ndarray]
_LEAST = 1e-300
# Deviations allowed, of the whole and of a channel. Conversions of golden, trained and small networks stay within
# 1.6 and 8; of a thousand channels one is the worst.
_WHOLE, _CHANNEL = 4.0, 12.0


def measure_gains(truth: Arrays, value: Arrays) -> np.ndarray:
    """(2 + channels,): gain and offset of the whole, then the gain of each channel; 0 where nothing is off.

    Args:
        truth, value: one output of each iteration, channels on axis 1, float64.
    """
    right, error = _by_channel(truth), _by_channel(_errors(truth, value))
    energy, along = (right * right).sum(1), (error * right).sum(1)
    offset = error.sum() / max(np.sqrt(energy.sum() * right.size), _LEAST)
    return np.array([along.sum() / max(energy.sum(), _LEAST), offset, *along / np.maximum(energy, _LEAST)])


def gain_ranges(truth: Arrays, baselines: Sequence[Arrays], floor: float, ceiling: float) -> np.ndarray:
    """(2 + channels, 2): least and largest of `measure_gains` that baselines with the same roundings explain.

    Args:
        floor: what one factor that is rounded by itself costs everything behind it.
        ceiling: the most around a baseline, of the whole; a channel has none.
    """
    ranges = [_range(truth, one, floor, ceiling) for one in baselines]
    return np.stack([np.min([r[:, 0] for r in ranges], 0), np.max([r[:, 1] for r in ranges], 0)], 1)


def _range(truth: Arrays, baseline: Arrays, floor: float, ceiling: float) -> np.ndarray:
    right, error = _by_channel(truth), _by_channel(_errors(truth, baseline))
    energy, squares = (right * right).sum(1), (error * error).mean(1) if error.size else np.zeros(len(error))
    samples = [(t.ravel(), e.ravel()) for t, e in zip(_rows(truth), _rows(_errors(truth, baseline)), strict=True)]
    channels = list(zip(right, error, strict=True))
    # of the gain along r, of the offset along ones as long
    along = [max(_stray(part, np.copy) for part in (channels, samples)), squares.mean()]
    added = [max(_stray(part, np.ones_like) for part in (channels, samples)), squares.mean()]
    whole = [min(max(floor, _WHOLE * np.sqrt(max(v) / max(energy.sum(), _LEAST))), ceiling) for v in (along, added)]
    own = np.maximum(squares, max(_stray(channels, np.copy), squares.mean()))
    each = np.maximum(floor, _CHANNEL * np.sqrt(own / np.maximum(energy, _LEAST)))  # of zeros: whatever it is
    middle, around = measure_gains(truth, baseline), np.concatenate([whole, each])
    return np.stack([np.minimum(middle, 0) - around, np.maximum(middle, 0) + around], 1)


def check_gains(truth: Arrays, value: Arrays, ranges: np.ndarray) -> list[dict[str, Any]]:
    """Gain, offset, and of the channels the gain that is furthest out: the fields of `records.parity.GainCheck`."""
    found = measure_gains(truth, value)
    out = np.abs(found - ranges.mean(1)) / np.maximum(ranges[:, 1] - ranges[:, 0], _LEAST)
    places = [(0, "gain"), (1, "offset")]
    if len(found) > 3:
        worst = 2 + int(out[2:].argmax())
        places.append((worst, f"gain of channel {worst - 2}"))
    return [
        {"what": what, "error": float(found[i]), "low": float(ranges[i, 0]), "high": float(ranges[i, 1])}
        for i, what in places
    ]


def _stray(parts: Sequence[tuple[np.ndarray, np.ndarray]], direction: Callable[[np.ndarray], np.ndarray]) -> float:
    """V: the mean square of errors along a direction, part by part; of independent errors their variance."""
    lengths = [(error @ (d := direction(right))) ** 2 / max(float(d @ d), _LEAST) for right, error in parts]
    return float(np.mean(lengths)) if lengths else 0.0


def _errors(truth: Arrays, value: Arrays) -> list[np.ndarray]:
    return [v - t for t, v in zip(truth, value, strict=True)]


def _rows(arrays: Arrays) -> list[np.ndarray]:
    return [row for array in arrays for row in np.atleast_1d(array)]


def _by_channel(arrays: Arrays) -> np.ndarray:
    """(channels, values) of all iterations; one channel where there is no axis 1, or of another size each time."""
    counts = {array.shape[1] if array.ndim > 1 else 0 for array in arrays}
    if len(counts) > 1 or not min(counts):
        return np.concatenate([array.ravel() for array in arrays])[None]
    return np.concatenate([np.moveaxis(array, 1, 0).reshape(array.shape[1], -1) for array in arrays], 1)
