"""The polynomial for log1p that the decompositions share, fitted here rather than copied.

    log1p(w) = s * P(s^2),   s = w / (2 + w),   0 <= w <= 1   so   0 <= s^2 <= 1/9

exactly 2*atanh(s), so P(u) = 2 * (1 + u/3 + u^2/5 + ...). No Log operator: some runtimes compute
ln(1 + w) literally and lose every small w. With four coefficients the relative error is 1.65e-7.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_POINTS = 2001
_ROUNDS = 60


@cache
def log1p_coefficients(count: int = 4) -> tuple[float, ...]:
    """P's coefficients, ascending: the relative minimax fit, by Lawson's reweighted least squares."""
    angle = np.pi * (np.arange(_POINTS) + 0.5) / _POINTS
    u = (1 - np.cos(angle)) / 18  # Chebyshev nodes of [0, 1/9]
    s = np.sqrt(u)
    exact = 2 * np.arctanh(s) / s
    basis = np.vander(u, count, increasing=True) / exact[:, None]
    weight = np.full(_POINTS, 1 / _POINTS)
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(basis * root[:, None], root, rcond=None)[0]
        weight *= np.abs(basis @ solution - 1) + 1e-300
        weight /= weight.sum()
    return tuple(float(c) for c in solution)
