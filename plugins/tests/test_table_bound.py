"""The proof in docs/kernels.md, in numbers: interpolation and rounding of `acc` stay within the contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import polynomial

LN2 = math.log(2)
LAMBDAS = [0.0, *np.logspace(-30, math.log10(2**20), 400)]

# float32: segments, degree; nats of -ln APA at the table's ends (table_fit.cc)
SETS = {"avx2": (256, 3), "avx512": (32, 7)}
TOP, BOTTOM = 2.0**-26, 178 * LN2
# Half types: segments, degree, nats at the ends, what the gate may be wrong by, relatively
HALVES = {
    "float16 avx2": (64, 3, 2.0**-14, 42 * LN2, 0.4 * 2**-11),
    "float16 avx512": (32, 4, 2.0**-14, 42 * LN2, 0.4 * 2**-11),
    "bfloat16": (32, 3, 2.0**-11, 160 * LN2, 0.4 * 2**-8),
}


def softplus_derivative(order: int) -> tuple[float, float]:
    """The largest |S^(order)|, and the largest |S^(order)| / S': polynomials in s = S' with s' = s(1-s)."""
    q = np.array([0.0, 1.0])
    for _ in range(order - 1):
        q = polynomial.polymul(polynomial.polyder(q), [0, 1, -1])
    s = np.linspace(0, 1, 100001)[1:]
    value = np.abs(polynomial.polyval(s, q))
    return float(value.max()), float((value / s).max())


def where(lambda_: float, nats: float) -> float:
    """u with -ln APA = nats."""
    power = lambda_ * nats
    if lambda_ == 0:
        return -math.log(nats)
    return math.log(lambda_) - (power if power > 30 else math.log(math.expm1(power)))


def width(lambda_: float, segments: int, top: float, bottom: float) -> float:
    """Of a segment, in u."""
    low = where(lambda_, bottom)
    if lambda_ > 0:
        low = max(low, math.log(lambda_) - 17)
    return (where(lambda_, top) - low) / (segments - 1.1)


def interpolation(lambda_: float, h: float, degree: int, v: np.ndarray) -> np.ndarray:
    """The bound of the error of log2 APA where it is -v: relative to v, or absolute, whichever is less."""
    absolute, relative = softplus_derivative(degree + 1)
    unit = 2 * (h / 4) ** (degree + 1) / math.factorial(degree + 1)
    by_value = relative * v * math.exp(h)
    return unit * (np.minimum(by_value, absolute / LN2 / lambda_) if lambda_ > 0 else by_value)


@pytest.mark.parametrize("isa", SETS)
def test_interpolation_and_rounding_add_up_to_less_than_the_contract(isa):
    segments, degree = SETS[isa]
    v = np.concatenate([[0.0], np.logspace(-8, math.log10(178), 500)])
    for lambda_ in LAMBDAS:
        h = width(lambda_, segments, TOP, BOTTOM)
        ulp = 2.0**-24
        rounding = 2.5 + LN2 * v * (1 + h)
        b = 2 if lambda_ < 2**-100 else 3 if lambda_ < 0.25 else 2.5
        total = interpolation(lambda_, h, degree, v) * LN2 / ulp + rounding
        assert np.all(total <= b * (2 + v)), lambda_


@pytest.mark.parametrize("name", HALVES)
def test_half_types_keep_four_tenths_of_a_last_place(name):
    segments, degree, top, bottom, allowed = HALVES[name]
    v = np.concatenate([[0.0], np.logspace(-8, math.log10(bottom / LN2), 500)])
    for lambda_ in LAMBDAS:
        h = width(lambda_, segments, top, bottom)
        rounding = 2.0**-24 * (2.5 + LN2 * v * (1 + h))
        assert np.all(interpolation(lambda_, h, degree, v) * LN2 + rounding <= allowed), lambda_
