"""Accept lambda and kappa only where the piece of the graph draws their curve everywhere, tails included.

With h = -ln APA, the piece and the formula must agree, at every z of the grid, to

    |h' - h| <= epsilon * h     or     |APA' - APA| <= 2e-9 + 2^-52 / max(lambda, 1e-8)

epsilon = (2*|ln lambda| + 4) * u + 2.5e-7, u half an ulp of the constants' type: ln(lambda) is rounded once
as it is computed and once as it is stored, 1/lambda and kappa likewise, and h follows ln(lambda) at a rate of
at most 1 relative to itself; our own decompositions know log1p to 1.7e-7. The absolute terms are for two
cases: a Softplus that is linear beyond 20, as PyTorch's (at most 1.2e-9 off); and graphs that compute
1 + lambda*exp(-kappa*z), where a small lambda loses digits even in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ...maths import UNIT, Float64, apa_float64
from .cut import Cut, sample_curve
from .fit import candidates, fit, gate_of, large_pairs
from .found import NotApa

_ABSOLUTE = 2e-9
_LOG1P = 2.5e-7
_ROUGH = 1e-4  # of a curve that is named and not folded
# ln of the smallest floor in use, 1e-8: below it lambda only names the limit.
_MOST_LOG = 18.5
# Far tails: nothing may happen there that the bend does not show, such as a Clip.
_FAR = np.array([1e2, 1e3, 1e5, 1e10, 1e30])
_NEAR_GRID = np.concatenate([np.linspace(-12.0, 12.0, 98), np.linspace(-90.0, 90.0, 60)])
# Of one channel, around the bend: kappa*z in units of 1 + lambda, and around ln(lambda).
_BEND = np.linspace(-60.0, 60.0, 162)


@dataclass(frozen=True)
class Proof:
    """What a piece was shown to be. `error`: the largest |APA' - APA| on the grid."""

    lambda_: Float64
    kappa: Float64
    error: float


def prove(cut: Cut, kind: str, axis: int | None) -> Proof | str:
    """The parameters with which `cut` is a gate or unit, or the reason why it is none."""
    fit_found = fit(cut, kind, axis)
    if fit_found is None:
        beta = _golu_beta(cut, kind)
        if beta is not None:
            return NotApa(f"it is GoLU with beta {beta:.6g}: outside APA, which has beta 1 alone")
        large = _large_lambda(cut, kind)
        if large is not None:
            return f"its lambda of {large:.6g} is larger than can be read from a curve"
        return NotApa("its curve is no APA: no lambda and kappa pass through it")
    answer: Proof | str = NotApa("its curve is flat")
    for pairs in candidates(cut, *fit_found):
        for lambda_, kappa in pairs:
            proof = _check_curve(cut, kind, axis, lambda_, kappa)
            if not isinstance(answer, Proof) or (isinstance(proof, Proof) and _clearly_better(proof, answer)):
                answer = proof
        if isinstance(answer, Proof):
            return answer
    return answer


def draws_curves(cut: Cut, kind: str) -> bool:
    """Whether each element of a piece whose parameters vary along several axes is a gate or unit."""
    fitted = fit(cut, kind, None)
    y = sample_curve(cut, _NEAR_GRID, None)
    if fitted is None or y is None or y.shape[1] != fitted[0].size:
        return False
    z = _NEAR_GRID[:, None]
    return bool((np.abs(gate_of(kind, y, z) - apa_float64(z, *fitted)) <= _ROUGH).all())


def _large_lambda(cut: Cut, kind: str) -> float | None:
    """The lambda beyond the reach of `fit` that the constants spell out, if the piece draws its curve."""
    y = sample_curve(cut, _NEAR_GRID, None)
    if y is None or y.size != _NEAR_GRID.size:
        return None
    gate = gate_of(kind, y.ravel(), _NEAR_GRID)
    if not np.isfinite(gate).all():
        return None
    for lambda_, kappa in large_pairs(cut):
        with np.errstate(all="ignore"):
            if (np.abs(gate - apa_float64(_NEAR_GRID, lambda_, kappa)) <= _ROUGH * np.ptp(gate)).all():
                return lambda_
    return None


def _golu_beta(cut: Cut, kind: str) -> float | None:
    """beta of exp(-beta * exp(-gamma * z)), the gate of GoLU; None where the curve is none, or beta is 1."""
    z = np.array([1.0, -1.0, 2.0, -0.5, 1e-6])
    y = sample_curve(cut, z, None)
    if y is None or y.size != z.size:
        return None
    with np.errstate(all="ignore"):
        h = -np.log(gate_of(kind, y.ravel(), z))
        gamma = np.log(h[1] / h[0]) / 2
        beta = float(np.sqrt(h[0] * h[1]))
        wanted = beta * np.exp(-gamma * z)
        fits = np.isfinite(wanted).all() and bool((np.abs(h - wanted) <= 1e-6 * np.abs(wanted)).all())
    return beta if fits and gamma != 0 and abs(beta - 1) > 1e-6 else None


def _clearly_better(proof: Proof, best: Proof) -> bool:
    """The candidates come simplest first: a later one must pay for itself."""
    return proof.error < 0.5 * best.error - 1e-12


def _check_curve(cut: Cut, kind: str, axis: int | None, lambda_: Float64, kappa: Float64) -> Proof | NotApa:
    if (kappa == 0).any():
        return NotApa("its curve is flat")
    z = _grid(lambda_, kappa)
    y = sample_curve(cut, z if lambda_.size > 1 else z[:, 0], axis)
    if y is None or y.shape != z.shape:
        return NotApa("it does not work on a grid of values")
    gate, wanted = gate_of(kind, y, z), apa_float64(z, lambda_, kappa)
    agreed = np.abs(gate - wanted) <= _ABSOLUTE + 2.0**-52 / np.maximum(lambda_, np.exp(-_MOST_LOG))
    with np.errstate(all="ignore"):
        h, h_wanted = -np.log(gate), -np.log(wanted)
        near = np.abs(h - h_wanted) <= _epsilon(cut, lambda_) * h_wanted
    agreed |= near & np.isfinite(h_wanted)  # where the gate is 0, only 0 will do
    if not agreed.all():
        at = np.argmin(agreed.all(axis=1))
        near = f"lambda={lambda_[0]:.4g}, kappa={kappa[0]:.4g}"
        return NotApa(f"its curve leaves that of {near} at z = {z[at].flat[0]:.4g}")
    if kind == UNIT and not _zero_at_zero(cut, axis):
        return NotApa("it is not 0 at z = 0")
    return Proof(lambda_, kappa, float(np.abs(gate - wanted).max()))


def _grid(lambda_: Float64, kappa: Float64) -> Float64:
    """z of shape (N, C): common points, far tails, and each channel's own bend. Never 0: a unit is divided by z."""
    common = np.concatenate([_NEAR_GRID, _FAR, -_FAR])[:, None]
    log_lambda = np.log(np.maximum(lambda_, np.exp(-_MOST_LOG)))
    wide, bend = _BEND[:, None] * (1 + lambda_) / kappa, (log_lambda + _BEND[:, None]) / kappa
    return np.concatenate([np.broadcast_to(common, (len(common), lambda_.size)), wide, bend])


def _epsilon(cut: Cut, lambda_: Float64) -> Float64:
    log_lambda = np.minimum(np.abs(np.log(np.maximum(lambda_, 1e-300))), _MOST_LOG)
    return (2 * log_lambda + 4) * cut.roundoff + _LOG1P


def _zero_at_zero(cut: Cut, axis: int | None) -> bool:
    y = sample_curve(cut, np.zeros(1), axis)
    return y is not None and bool((y == 0).all())


def merge_channels(values: Float64) -> tuple[float, ...]:
    """One value where all channels agree."""
    if not np.isfinite(values).all():
        raise InputError(f"parameters {values}", "finite numbers", "Check the training run that made them.")
    return tuple(values.tolist()) if (values != values[0]).any() else (float(values[0]),)
