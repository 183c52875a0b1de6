"""The error that each piece of a network adds: what the pieces are, what float64 says, how errors become records.

A network is cut before and behind each activation. Every piece - an activation, or the layers before one - gets
its inputs from the float64 reference, so that its error is its own: none is inherited, none is hidden.

The limit is that of the model gate (`parity.limits`), for one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.sites import ActivationSite
from ..inspection import predict_error
from ..network import Network
from ..parity.limits import model_limit
from ..report.record import ActivationError
from ..tensors.signature import Feed

BEFORE, AFTER = "layers before", "layers after the last activation"
_TINY = 1e-300


@dataclass(frozen=True)
class Wanted:
    """float64 values of one site: what enters it, and what leaves it."""

    entering: np.ndarray
    leaving: np.ndarray


def compute_wanted(reference: Network, sites: Sequence[ActivationSite], feed: Feed) -> dict[str, Wanted]:
    """Name of each use of an activation -> its values in float64."""
    found = reference.intermediate(feed, {site.path for site in sites})
    return {name: Wanted(*values) for name, values in found.items()}


def activation_error(
    runner: str, site: ActivationSite, reference: Network, z: np.ndarray, measured: np.ndarray, precision: str
) -> ActivationError:
    """Of an activation that was given `z`: against the reference's own in float64 at these very numbers."""
    curve = reference.curve(site.path)
    assert curve is not None  # sites are made of the reference's own paths
    known = site.path in {one.path for one in reference.learned}
    expected = predict_error(site.kind, site.parameters, z, precision) if known else None
    return _error(runner, site.name, site.kind, curve(z), measured, expected, precision)


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
    limit = model_limit((expected or 0.0) / scale, precision)
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


def rank_errors(errors: Sequence[ActivationError]) -> list[ActivationError]:
    """Those beyond their limit first, the furthest beyond it at the top; then the rest, the largest first."""
    return sorted(errors, key=lambda e: (bool(e.passed), -e.measured / (1.0 if e.passed else e.limit or 1.0)))


def round_feed(values: Mapping[str, np.ndarray], dtype: np.dtype) -> Feed:
    """float64 values in a type, given as float32."""
    return {name: value.astype(dtype).astype(np.float32) for name, value in values.items()}
