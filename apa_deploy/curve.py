"""Find lambda and kappa from a sampled curve: for activations whose parameters are stored some other way.

With h(z) = -ln APA(z), expm1(lambda * h(z)) / lambda = exp(-kappa*z). At z and -z the right-hand sides
multiply to 1, which leaves one equation in lambda; its left-hand side grows with lambda.
"""

from __future__ import annotations

import numpy as np

from .modules import Float64

SAMPLES = (1.0, -1.0)
_LARGEST = 1e4
_HALVINGS = 200


def fit_curve(gate_at_plus: Float64, gate_at_minus: Float64) -> tuple[Float64, Float64]:
    """Lambda and kappa, each of shape (C,), whose gate passes through the values at z = 1 and z = -1.

    NaN where no lambda in [0, 1e4] does.
    """
    with np.errstate(all="ignore"):
        plus, minus = -np.log(gate_at_plus), -np.log(gate_at_minus)
        lambda_ = _bisected(plus, minus)
        kappa = (np.log(_ratio(lambda_, minus)) - np.log(_ratio(lambda_, plus))) / 2
    valid = (plus > 0) & (minus > 0) & (plus * minus <= 1 + 1e-9) & (lambda_ < _LARGEST / 2)
    return np.where(valid, lambda_, np.nan), np.where(valid, kappa, np.nan)


def _ratio(lambda_: Float64, h: Float64) -> Float64:
    positive = np.where(lambda_ > 0, lambda_, 1.0)
    return np.where(lambda_ > 0, np.expm1(positive * h) / positive, h)


def _bisected(plus: Float64, minus: Float64) -> Float64:
    low, high = np.zeros_like(plus), np.full_like(plus, _LARGEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _ratio(middle, plus) * _ratio(middle, minus) > 1
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(plus * minus >= 1, 0.0, (low + high) / 2)
