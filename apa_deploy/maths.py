"""The Adaptive Parametric Activation: float64 formulas, with numpy alone.

    gate  APA(z)  = (1 + lambda * exp(-kappa*z))^(-1/lambda)        lambda = 0: exp(-exp(-kappa*z))
    unit  AGLU(z) = z * APA(z)

Source: Alexandridis, Deng, Nguyen, Luo, "Adaptive Parametric Activation", ECCV 2024, equations 6 and 9.
"Effective" means that a network's own floor on lambda (relu + 1e-8, clamp at 1e-4) is already applied.

What every function and module here answers, in any float type:

| z        | APA, kappa > 0           | AGLU, kappa > 0 | kappa < 0          | kappa = 0       |
| -------- | ------------------------ | --------------- | ------------------ | --------------- |
| NaN      | NaN                      | NaN             | NaN                | NaN             |
| +inf     | 1                        | +inf            | APA 0, AGLU NaN    | NaN (0 * inf)   |
| -inf     | 0                        | NaN (-inf * 0)  | APA 1, AGLU -inf   | NaN             |
| +0, -0   | (1 + lambda)^(-1/lambda) | +0, -0          | as for kappa > 0   | as for kappa > 0 |
| denormal | as for 0                 | z * APA(0)      | as for kappa > 0   | as for kappa > 0 |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

Float64 = NDArray[np.float64]
GATE, UNIT = "APA", "AGLU"
KINDS = (GATE, UNIT)
# Up to this lambda the limit is exact to float64: see `functional.limit_below`.
_LIMIT_BELOW = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Parameters:
    """Effective parameters of one activation: `lambda_` and `kappa` of length 1 or C along `axis`."""

    lambda_: tuple[float, ...]
    kappa: tuple[float, ...]
    axis: int = 1

    @property
    def channels(self) -> int:
        """How many values it has along `axis`: 1 or C."""
        return max(len(self.lambda_), len(self.kappa))

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """(lambda, kappa) of each channel."""
        count = self.channels
        lambdas, kappas = (v if len(v) == count else v * count for v in (self.lambda_, self.kappa))
        return list(zip(lambdas, kappas, strict=True))


class ParameterError(InputError):
    """An effective parameter is not usable. `name` is lambda or kappa, `value` what was given."""

    def __init__(self, name: str, value: object, wanted: str) -> None:
        super().__init__(f"{name} = {value}", wanted, "Check the training run that made these weights.")
        self.name, self.value = name, value


def apa_float64(z: ArrayLike, lambda_: ArrayLike, kappa: ArrayLike) -> Float64:
    """APA in float64, broadcast over numpy arrays; lambda >= 0, 0 meaning the limit.

    With t = ln(lambda) - kappa*z, -ln APA = (max(t, 0) + log1p(exp(-|t|))) / lambda overflows for no z.
    """
    z, lam, k = (np.asarray(v, dtype=np.float64) for v in (z, lambda_, kappa))
    with np.errstate(all="ignore"):
        ordinary = lam > _LIMIT_BELOW
        positive = np.where(ordinary, lam, 1.0)
        t = np.log(positive) - k * z
        general = np.exp(-(np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))) / positive)
        return np.where(ordinary, general, np.exp(-np.exp(-k * z)))


def aglu_float64(z: ArrayLike, lambda_: ArrayLike, kappa: ArrayLike) -> Float64:
    """AGLU in float64, broadcast over numpy arrays: `z * apa_float64(z, ...)`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(z, dtype=np.float64) * apa_float64(z, lambda_, kappa)


REFERENCE = {GATE: apa_float64, UNIT: aglu_float64}


def effective_parameters(lambda_: ArrayLike, kappa: ArrayLike, axis: int = 1) -> Parameters:
    """Checked `Parameters` from floats or arrays of one value, or of C values along `axis`.

    Raises:
        ParameterError: a value is not finite, lambda is negative, or the lengths disagree.
    """
    lam, k = (tuple(np.asarray(v, dtype=np.float64).ravel().tolist()) for v in (lambda_, kappa))
    for name, values in (("lambda", lam), ("kappa", k)):
        for value in values:
            if not math.isfinite(value):
                raise ParameterError(name, value, "a finite number")
    if min(lam) < 0:
        raise ParameterError("lambda", min(lam), "an effective lambda >= 0 (apply the network's floor first)")
    if len(lam) != len(k) and 1 not in (len(lam), len(k)):
        raise ParameterError("lambda and kappa", f"{len(lam)} and {len(k)} values", "equal lengths, or one value")
    return Parameters(lam, k, axis)


# The z at which `fit_curve` samples a gate.
SAMPLES = (1.0, -1.0)
_LARGEST = 1e4
_HALVINGS = 200


def fit_curve(gate_at_plus: Float64, gate_at_minus: Float64) -> tuple[Float64, Float64]:
    """Lambda and kappa, each of shape (C,), whose gate passes through the values at z = 1 and z = -1.

    For activations whose parameters are stored some other way. With h(z) = -ln APA(z),
    expm1(lambda * h(z)) / lambda = exp(-kappa*z). At z and -z the right-hand sides multiply to 1, which leaves one
    equation in lambda; its left-hand side grows with lambda. NaN where no lambda in [0, 1e4] does.
    """
    with np.errstate(all="ignore"):
        plus, minus = -np.log(gate_at_plus), -np.log(gate_at_minus)
        lambda_ = _bisect(plus, minus)
        kappa = (np.log(_ratio(lambda_, minus)) - np.log(_ratio(lambda_, plus))) / 2
    valid = (plus > 0) & (minus > 0) & (plus * minus <= 1 + 1e-9) & (lambda_ < _LARGEST / 2)
    return np.where(valid, lambda_, np.nan), np.where(valid, kappa, np.nan)


def _ratio(lambda_: Float64, h: Float64) -> Float64:
    positive = np.where(lambda_ > 0, lambda_, 1.0)
    return np.where(lambda_ > 0, np.expm1(positive * h) / positive, h)


def _bisect(plus: Float64, minus: Float64) -> Float64:
    low, high = np.zeros_like(plus), np.full_like(plus, _LARGEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _ratio(middle, plus) * _ratio(middle, minus) > 1
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(plus * minus >= 1, 0.0, (low + high) / 2)
