"""The error that each piece of a network adds: what the pieces are, what float64 says, how errors become records.

A network is cut before and behind each activation. Every piece - an activation, or the layers before one - gets
its inputs from the float64 reference, so that its error is its own: none is inherited, none is hidden.

The limit is that of the model gate, for one piece: 4 times the error of torch computing (or storing, for half
types) the same piece in the type, and at least 32 roundings of half an ulp, or 4 of a half type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..graph.node import Parameters
from ..graph.precision import UNIT_ROUNDOFF
from ..inspection import predicted_error
from ..parity.blame import reference_values
from ..parity.half import ONE_LAYER
from ..parity.inputs import Feed
from ..parity.model_gate import FACTOR, FLOOR
from ..parity.operator_gate import Site
from ..replace import Found, recognise
from ..report.record import ActivationError

BEFORE, AFTER = "layers before", "layers after the last activation"
_TINY = 1e-300


@dataclass(frozen=True)
class Wanted:
    """float64 values of one site: what enters it, and what leaves it."""

    entering: np.ndarray
    leaving: np.ndarray


def wanted_values(reference: nn.Module, sites: Sequence[Site], feed: Feed) -> dict[str, Wanted]:
    """Site path -> its values in float64; `reference` is a float64 module."""
    found = reference_values(reference, sites, feed)
    return {path: Wanted(*values) for path, values in found.items()}


def activation_error(
    runner: str, site: Site, z: np.ndarray, measured: np.ndarray, precision: str
) -> ActivationError:
    """Of an activation that was given `z`: against its float64 original at these very numbers."""
    with torch.inference_mode():
        right = site.original(torch.from_numpy(np.asarray(z, np.float64))).numpy()
    found = recognise(site.path, site.original)
    known = Parameters(found.lambda_, found.kappa, found.axis) if isinstance(found, Found) else None
    expected = predicted_error(site.kind, known, z, precision) if known else None
    return _error(runner, site.path, site.kind, right, measured, expected, precision)


def piece_error(
    runner: str,
    place: str,
    right: np.ndarray,
    measured: np.ndarray,
    torch_made: np.ndarray | None,
    precision: str,
    kind: str = BEFORE,
) -> ActivationError:
    """Of the layers before `place`; `torch_made`: the same piece as torch computes or stores it in the type."""
    expected = None if torch_made is None else float(np.abs(torch_made - right).max())
    return _error(runner, place, kind, right, measured, expected, precision)


def _error(
    runner: str,
    place: str,
    kind: str,
    right: np.ndarray,
    measured: np.ndarray,
    expected: float | None,
    precision: str,
) -> ActivationError:
    comparable = measured.shape == right.shape and bool(np.isfinite(measured).all())
    worst = float(np.abs(measured - right).max()) if comparable else float("inf")
    scale = max(float(np.abs(right).max()), _TINY)
    floor = FLOOR if precision == "fp32" else ONE_LAYER * UNIT_ROUNDOFF[precision]
    limit = max(FACTOR * (expected or 0.0) / scale, floor)
    predicted = None if expected is None else expected / scale
    added = worst / scale
    return ActivationError(
        runner=runner,
        path=place,
        kind=kind,
        measured=added,
        predicted=predicted,
        limit=limit,
        passed=added <= limit,
    )


def ranked(errors: Sequence[ActivationError]) -> list[ActivationError]:
    """Those beyond their limit first, the furthest beyond it at the top; then the rest, the largest first."""
    return sorted(errors, key=lambda e: (bool(e.passed), -e.measured / (1.0 if e.passed else e.limit or 1.0)))


def rounded_feed(values: Mapping[str, np.ndarray], dtype: np.dtype) -> Feed:
    """float64 values in a type, given as float32."""
    return {name: value.astype(dtype).astype(np.float32) for name, value in values.items()}
