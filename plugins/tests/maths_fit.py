"""Fit the polynomials of plugins/include/apa, and measure those that stand there.

    python plugins/tests/maths_fit.py        prints coefficients, lowest power first, and relative errors

The fit is Lawson's: least squares, reweighted by the error until the largest is as small as it gets, in
float64, then rounded to float32, which makes most of the error. What is printed is the error that exact
arithmetic would have with the rounded coefficients.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

INCLUDE = Path(__file__).resolve().parents[1] / "include/apa"
Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Polynomial:
    """q of a degree on [low, high], and the error of the whole that the header states."""

    name: str
    file: str
    variable: str  # of the Horner scheme in the header
    degree: int
    low: float
    high: float
    quotient: Function  # what q approximates
    weight: Function  # the relative error of the whole, for a relative error of 1 in q
    error: float


def _over(x: np.ndarray, value: np.ndarray, limit: float) -> np.ndarray:
    """value / x, and its limit at 0."""
    return np.where(x == 0, limit, value / np.where(x == 0, 1, x))


def _log2_1p_over(x: np.ndarray) -> np.ndarray:
    return _over(x, np.log1p(x) / np.log(2), 1 / np.log(2))


def _exp2_m1_over(r: np.ndarray) -> np.ndarray:
    return _over(r, np.expm1(r * np.log(2)), np.log(2))


POLYNOMIALS = (
    # 2^r = 1 + r*q(r): what q is wrong by counts r*q / 2^r.
    Polynomial("exp2_fraction", "vector_math.h", "r", 5, -0.5 - 2**-20, 0.5 + 2**-20,
               _exp2_m1_over, lambda r: 1 - np.exp2(-r), 1.8e-8),
    Polynomial("log2_1p", "vector_math.h", "m", 8, -0.25, 0.5, _log2_1p_over, np.ones_like, 3.6e-8),
    Polynomial("log2_1p_over_x", "math.h", "x", 5, 0.0, 0.25, _log2_1p_over, np.ones_like, 2**-25.9),
)  # fmt: skip


def fitted(p: Polynomial, steps: int = 200) -> np.ndarray:
    """Coefficients of q in float32, lowest power first."""
    x = (p.low + p.high) / 2 - (p.high - p.low) / 2 * np.cos(np.linspace(0, np.pi, 2001))
    scale = np.abs(p.weight(x)) / p.quotient(x)
    powers = np.vander(x, p.degree + 1, increasing=True) * scale[:, None]
    target, importance = p.quotient(x) * scale, np.ones_like(x)
    best, least = np.zeros(p.degree + 1), np.inf
    for _ in range(steps):
        root = np.sqrt(importance)
        coefficients = np.linalg.lstsq(powers * root[:, None], target * root, rcond=None)[0]
        residual = np.abs(powers @ coefficients - target)
        if residual.max() < least:
            best, least = coefficients, residual.max()
        importance *= residual
        importance /= importance.sum()
    return best.astype(np.float32)


def standing(p: Polynomial) -> np.ndarray:
    """The coefficients in the header, lowest power first."""
    text = (INCLUDE / p.file).read_text()
    body = text[text.index(f" {p.name}(") :]
    found = re.findall(rf"(?:= | \* {p.variable} \+ |all\()(-?\d\.\d+e[+-]\d+)f", body)
    return np.array(found[: p.degree + 1][::-1], np.float32)


def relative_error(p: Polynomial, coefficients: np.ndarray) -> float:
    """The largest on the interval, with exact arithmetic."""
    x = np.linspace(p.low, p.high, 100001)
    q = np.polynomial.polynomial.polyval(x, coefficients.astype(np.float64))
    return float(np.max(np.abs((q / p.quotient(x) - 1) * p.weight(x))))


if __name__ == "__main__":
    for polynomial in POLYNOMIALS:
        for what, values in (("fitted", fitted(polynomial)), ("stands", standing(polynomial))):
            print(f"{polynomial.name}, {what}: {relative_error(polynomial, values):.3g}")
            print("   ", *(f"{value:.9e}f" for value in values))
