"""The range of every value that a plan stores in codes: the model runs on the calibration samples, in batches.

minmax    the smallest and the largest number seen
mse       the range whose codes have the least squared error over a histogram of what was seen
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..errors import InputError
from ..graph.quantise.codes import Codes, scale_of
from ..runtimes.ort_session import open_session, session_options
from ..tensors.signature import Feed
from .data import split_rows

_BINS = 4096
# All maps of ResNet-50 at 224 x 224 are 90 MB a sample: a run holds about so much of what it gives out.
_MEMORY = 256 << 20
_MOST = 32
# Of the `mse` search: ends cut to these shares of the range.
_SHARES = np.linspace(0.3, 1.0, 29)

Ranges = dict[str, tuple[float, float]]


def open_calibration_session(model: onnx.ModelProto, libraries: Sequence[Path]) -> Any:
    """ONNX Runtime on the CPU, with the custom operators of `libraries`.

    Raises:
        InputError: the model does not load.
    """
    options = session_options()
    for library in libraries:
        options.register_custom_ops_library(str(library))
    try:
        return open_session(model, options=options)
    except Exception as error:
        saw = f"ONNX Runtime says: {str(error).splitlines()[0]}"
        do = "Give the library of its operators with --ort-library."
        raise InputError(saw, "a model that runs here, to be calibrated", do) from error


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` that gives `names` out too."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    have = {value.name for value in result.graph.output} | {value.name for value in result.graph.input}
    # Without a type: a declared shape of None would be taken for a scalar's.
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    return result


def runs(session: Any, feed: Feed) -> Iterator[dict[str, np.ndarray]]:
    """What `session` gives for all rows of `feed`, its inputs among it, batch after batch within the memory."""
    names = [value.name for value in session.get_outputs()]
    fixed = [d for value in session.get_inputs() for d in value.shape[:1] if isinstance(d, int)]
    size = fixed[0] if fixed else _batch_for(session, feed, names)
    for rows in split_rows(feed, size):
        yield rows | dict(zip(names, _run(session, names, rows), strict=True))


def _run(session: Any, names: list[str], rows: Feed) -> list[np.ndarray]:
    try:
        return list(session.run(names, rows))
    except Exception as error:
        saw = f"the network fails on a calibration sample; ONNX Runtime says: {str(error).splitlines()[0]}"
        raise InputError(saw, "samples that it takes", "Check the samples: indices, sizes, ranges.") from error


def _batch_for(session: Any, feed: Feed, names: list[str]) -> int:
    one = {name: array[:1] for name, array in feed.items()}
    given = sum(value.nbytes for value in _run(session, names, one))
    return int(np.clip(_MEMORY // max(given, 1), 1, min(_MOST, len(next(iter(feed.values()))))))


def collect_ranges(
    model: onnx.ModelProto,
    names: Sequence[str],
    feed: Feed,
    *,
    method: str,
    codes: Codes,
    libraries: Sequence[Path] = (),
) -> Ranges:
    """The range of each of `names`, float values of `model`.

    Raises:
        InputError: the model does not run on the samples, or gives NaN or infinity.
    """
    session = open_calibration_session(with_outputs(model, names), libraries)
    seen: Ranges = {}
    for values in runs(session, feed):
        for name in names:
            low, high = float(values[name].min(initial=0)), float(values[name].max(initial=0))
            if not np.isfinite((low, high)).all():
                saw = f"{name} is NaN or infinite on a calibration sample"
                raise InputError(saw, "finite values throughout the network", "Check the samples and the weights.")
            seen[name] = (min(low, seen.get(name, (low, 0))[0]), max(high, seen.get(name, (0, high))[1]))
    if method == "minmax":
        return seen
    counts = {name: np.zeros(_BINS) for name in names}
    for values in runs(session, feed):
        for name in names:
            counts[name] += np.histogram(values[name], _BINS, _apart(*seen[name]))[0]
    return {name: _least_squares(*_apart(*seen[name]), counts[name], codes) for name in names}


def _apart(low: float, high: float) -> tuple[float, float]:
    return low, max(high, low + 1e-30)


def _least_squares(low: float, high: float, counts: np.ndarray, codes: Codes) -> tuple[float, float]:
    middle = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    value, weight = middle[counts > 0], counts[counts > 0]
    lows = low * _SHARES[::2] if low < 0 and not codes.symmetric else [low]
    best = (np.inf, low, high)
    for a in lows:
        for b in high * _SHARES if not codes.symmetric else max(-low, high) * _SHARES:
            scale = scale_of(-b if codes.symmetric else a, b, codes)
            error = float(weight @ (scale.real_of(scale.code_of(value)) - value) ** 2)
            if error < best[0]:
                best = (error, -b if codes.symmetric else a, b)
    return best[1:]
