"""Lambda and kappa of a piece of a graph: fitted to its curve, then read from its constants where they tell.

    y(z) sampled at +-s   ->   lambda, kappa   ->   the constant (or 1/constant, e^constant ...) that it is

A fit has the accuracy of the samples; a constant is exact. Where graphs hold ln(lambda) and 1/lambda as two
rounded constants, either is as good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ...maths import GATE, Float64, fit_curve
from .cut import Cut, sample_curve

# Powers of two: kappa may be anything, and a sample is best taken where the curve bends.
_SCALES: Float64 = 2.0 ** np.arange(-14, 14, dtype=np.float64)
# h = -ln APA. Below 1e-7 a float64 gate near 1 keeps fewer than 9 digits of it; above 30 the gate is nearly 0.
_SMALLEST_H, _LARGEST_H = 1e-7, 30.0
# A fit is right to about 1e-4 of the smallest lambdas; constants that differ by more are others.
_NEAR = 1e-2
# ln(lambda), up to 18.4, and 1/lambda are rounded apart; the fit of lambda follows their difference tenfold.
_ROUNDING = 200.0
_LARGEST_FITTED = 5e3  # of `fit_curve`
# lambda below it and 0 draw the same curve to 0.271 * lambda, below what float32 can tell.
TINY_LAMBDA = 1e-6


def gate_of(kind: str, y: Float64, z: Float64) -> Float64:
    """The gate that a gate or unit y(z) has: y, or y/z."""
    with np.errstate(all="ignore"):
        return y if kind == GATE else y / z


def fit(cut: Cut, kind: str, axis: int | None) -> tuple[Float64, Float64] | None:
    """Lambda and kappa, each of shape (C,); None where some channel is no such curve."""
    at_plus, at_minus = (sample_curve(cut, sign * _SCALES, axis) for sign in (1.0, -1.0))
    if at_plus is None or at_minus is None or at_plus.shape != at_minus.shape:
        return None
    s = _SCALES[:, None]
    h_plus, h_minus = _exponent(gate_of(kind, at_plus, s)), _exponent(gate_of(kind, at_minus, -s))
    usable = np.minimum(h_plus, h_minus) >= _SMALLEST_H
    usable &= np.maximum(h_plus, h_minus) <= _LARGEST_H
    if not usable.any(axis=0).all():
        return None
    best = len(_SCALES) - 1 - np.argmax(usable[::-1], axis=0)  # the largest usable scale of each channel
    columns = np.arange(h_plus.shape[1])
    lambda_, kappa = _from(h_plus[best, columns], h_minus[best, columns])
    kappa = kappa / _SCALES[best]
    return (lambda_, kappa) if np.isfinite(lambda_).all() and np.isfinite(kappa).all() else None


def _exponent(gate: Float64) -> Float64:
    with np.errstate(all="ignore"):
        h = -np.log(gate)
    return np.where(np.isfinite(h), h, -1.0)


def _from(plus: Float64, minus: Float64) -> tuple[Float64, Float64]:
    """`fit_curve`, where rounded constants may have lifted the product of the exponents above 1, its limit."""
    with np.errstate(all="ignore"):
        excess = np.sqrt(np.clip(plus * minus, 1.0, 1 + _NEAR))
        return fit_curve(np.exp(-plus / excess), np.exp(-minus / excess))


def candidates(cut: Cut, lambda_: Float64, kappa: Float64) -> Iterator[list[tuple[Float64, Float64]]]:
    """Pairs near the fitted one: first those made of the constants of the piece, then mixed, then the fitted."""
    lambdas, kappas = _near(lambda_, _lambda_forms(cut), cut), _near(kappa, _kappa_forms(cut), cut)
    yield [(lam, k) for lam in lambdas for k in kappas]
    yield [(lam, kappa) for lam in lambdas] + [(lambda_, k) for k in kappas]
    yield [(lambda_, kappa)]


def large_pairs(cut: Cut) -> Iterator[tuple[float, float]]:
    """Pairs of single constants whose lambda is above what `fit` finds."""
    kappas = {float(k[0]) for k in _kappa_forms(cut) if k.size == 1}
    for lambda_ in {float(c[0]) for c in _lambda_forms(cut) if c.size == 1}:
        if _LARGEST_FITTED <= lambda_ < np.inf:
            yield from ((lambda_, kappa) for kappa in kappas if np.isfinite(kappa) and kappa != 0)


def _constants(cut: Cut) -> list[Float64]:
    return [c.values.ravel() for c in cut.constants.values() if c.values.dtype == np.float64]


def _lambda_forms(cut: Cut) -> Iterator[Float64]:
    constants = _constants(cut)
    with np.errstate(all="ignore"):
        for form in (lambda c: c, lambda c: -c, lambda c: 1 / c, lambda c: -1 / c, np.exp, lambda c: np.exp(-c)):
            for c in constants:
                yield form(c)
    yield np.zeros(1)
    yield np.ones(1)


def _kappa_forms(cut: Cut) -> Iterator[Float64]:
    yield np.ones(1)
    yield -np.ones(1)
    with np.errstate(all="ignore"):
        for c in _constants(cut):
            yield from (c, -c, 1 / c, -1 / c)


def _near(target: Float64, forms: Iterable[Float64], cut: Cut) -> list[Float64]:
    """The distinct forms that agree with `target` in every channel, as far as a fit to rounded constants tells."""
    found: list[Float64] = []
    rounding = _ROUNDING * cut.roundoff
    for form in forms:
        if form.size not in (1, target.size):
            continue
        wide = np.broadcast_to(form, target.shape)
        with np.errstate(all="ignore"):
            near = np.abs(wide - target) <= (_NEAR + rounding) * np.abs(target) + TINY_LAMBDA + rounding
        if near.all() and not any(np.array_equal(wide, other) for other in found):
            found.append(wide)
    return found
