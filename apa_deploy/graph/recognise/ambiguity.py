"""Curves that are APA's at some lambda and kappa, yet common for other reasons: those are left alone.

| curve                          | also known as              | folded                                        |
| ------------------------------ | -------------------------- | --------------------------------------------- |
| lambda 1, kappa 1              | Sigmoid, SiLU              | only where lambda and kappa are spelled out   |
| z * Sigmoid(kappa*z)           | QuickGELU at kappa = 1.702 | where kappa is neither 1 nor 1.702            |
| Sigmoid(kappa*z)               | logistic head, temperature | beside an activation that is unambiguous     |
| lambda 0, kappa +-1: the gate  | Gumbel score, cloglog link | only where lambda or kappa is spelled out     |

"Spelled out": by a Softplus or Log among at least two constant operands for lambda 1, by one constant operand
for lambda 0. Leaving such a curve costs nothing: in ONNX it is the very form that we would write for it.
"""

from __future__ import annotations

import numpy as np

from ...maths import GATE
from .cut import Cut
from .fit import TINY_LAMBDA
from .prove import Proof

_EQUAL = 1e-6
_QUICK_GELU, _QUICK_GELU_DIGITS = 1.702, 1e-3
_TAKE_CONSTANTS = {"Add", "Sub", "Mul", "Div", "Pow"}


def explain_ambiguity(cut: Cut, kind: str, proof: Proof, *, in_company: bool) -> str | None:
    """Why `cut` may be something else, or None. `in_company`: the model has an unambiguous activation."""
    spelled = _constant_operands(cut)
    size = np.abs(proof.kappa)
    if (np.abs(proof.lambda_ - 1) <= _EQUAL).all():
        if spelled >= 2 and cut.operators & {"Softplus", "Log"}:
            return None
        return _explain_at_one(kind, size, in_company=in_company)
    unspelled = kind == GATE and not spelled and (np.abs(size - 1) <= _EQUAL).all()
    if unspelled and (proof.lambda_ <= TINY_LAMBDA).all():
        return "exp(-exp(-z)) without a parameter is a Gumbel score or a cloglog link, not a learned activation"
    return None


def _explain_at_one(kind: str, size: np.ndarray, *, in_company: bool) -> str | None:
    if (np.abs(size - 1) <= _EQUAL).all():
        return f"{'Sigmoid' if kind == GATE else 'SiLU'} without lambda or kappa is not a learned activation"
    if (np.abs(size - _QUICK_GELU) <= _QUICK_GELU_DIGITS).all():
        return "Sigmoid(1.702*z) is QuickGELU's gate"
    if kind == GATE and not in_company:
        return "Sigmoid(kappa*z) alone may be a logistic head with a temperature"
    return None


def _constant_operands(cut: Cut) -> int:
    nodes = [node for node in cut.nodes if node.op_type in _TAKE_CONSTANTS]
    return sum(any(name in cut.constants for name in node.input) for node in nodes)
