"""The proofs in docs/kernels.md, in numbers: interpolation and rounding stay within the contract."""

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


# --- pw of float32: the sum that table_fit.cc adds up for a layer's own table, for any table of these widths.

WHOLE = {"avx2": (256, 3), "avx512": (32, 7)}
NOTHING = 2.0**-24  # table_fit.cc: kNothing
# Up to this lambda, and from this |kappa| on, the sum is within the bound; beyond, the check may still say so.
SURE = {"avx2": (1.5, 0.5), "avx512": (0.3, 0.7)}


def whole_width(lambda_: float, kappa: float, segments: int) -> tuple[float, float]:
    """Of a segment in u, and where the first one ends; kappa is 1 for a gate."""
    size = min(1.0, kappa)
    nats = -math.log(NOTHING * size)
    for _ in range(12):
        nats = math.log(-where(lambda_, nats) / (NOTHING * size))
    low, high = where(lambda_, nats), where(lambda_, NOTHING)
    scale, offset = max((min((k - 0.5) / -low, (segments - 1.5 - k) / high), k) for k in range(1, segments - 1))
    return 1 / scale, (0.5 - offset) / scale


def derivatives(lambda_: float, u: np.ndarray, orders: int) -> list[np.ndarray]:
    """APA and its derivatives by u: APA times polynomials in w = exp(-u) / (1 + lambda exp(-u)).

    APA' = w APA, and w' = -w(1 - lambda w).
    """
    power = np.exp(-u)
    w = power / (1 + lambda_ * power)
    gate = np.exp(-(np.log1p(lambda_ * power) / lambda_ if lambda_ > 0 else power))
    q, found = np.array([1.0]), []
    for _ in range(orders + 1):
        found.append(gate * polynomial.polyval(w, q))
        q = polynomial.polyadd(
            polynomial.polymul(q, [0, 1]), polynomial.polymul(polynomial.polyder(q), [0, -1, lambda_])
        )
    return found


def gate_errors(lambda_: float, h: float, u: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """At u: what interpolation and rounding do to APA at most, each term at its largest within a segment around."""
    around = u + np.linspace(-h, h, 33)[:, None]
    largest = [np.abs(one).max(0) for one in derivatives(lambda_, around, degree + 1)]
    interpolated = 2 * (h / 4) ** (degree + 1) / math.factorial(degree + 1) * largest[-1]
    # The constant coefficient and the last sum, both below 1; then coefficients, sums and f, times |f| <= 1/2.
    rounded = np.minimum(2.0**-25, 2.0**-24 * largest[0]) + 2.0**-24 * np.minimum(largest[0], 1)
    for j in range(1, degree + 1):
        rounded += 2.0**-24 * (2 * j + 2) * largest[j] * (h / 2) ** j / math.factorial(j)
    return interpolated, rounded


@pytest.mark.parametrize("isa", WHOLE)
def test_pw_keeps_the_absolute_bound(isa):
    segments, degree = WHOLE[isa]
    most, least = SURE[isa]
    for lambda_ in [0.0, *np.logspace(-8, math.log10(most), 40)]:
        for kind, kappa in [("gate", 1.0), *(("unit", k) for k in np.geomspace(least, 30, 12))]:
            h, start = whole_width(lambda_, kappa if kind == "unit" else 1.0, segments)
            u = np.linspace(start, 17, 4001)
            interpolated, rounded = gate_errors(lambda_, h, u, degree)
            truth = derivatives(lambda_, u, 0)[0]
            if kind == "gate":
                total, bound = interpolated + rounded, 2.0**-23
            else:
                z = np.abs(u) / kappa
                total, bound = z * (interpolated + rounded + 2.0**-24 * truth), 2.0**-22 * np.maximum(1, z * truth)
            assert np.all(total <= bound), (lambda_, kind, kappa)


@pytest.mark.parametrize("lambda_", [0.0, 0.1, 1.0, 3.0])
def test_what_pw_takes_for_0_and_1_is_nothing(lambda_):
    for kappa in (0.01, 0.3, 1.0, 5.0):
        _, start = whole_width(lambda_, kappa, 32)
        u = np.linspace(start - 200, start, 10001)
        assert np.all(np.abs(u / kappa) * derivatives(lambda_, u, 0)[0] <= NOTHING * (1 + 1e-9))
        assert kappa < 1 or np.all(derivatives(lambda_, u, 0)[0] <= NOTHING)
    assert 1 - derivatives(lambda_, np.array([where(lambda_, NOTHING)]), 0)[0] <= NOTHING
