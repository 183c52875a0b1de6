"""The gate and the unit on tensors, and as operators of torch: one node under torch.compile and torch.export.

    torch.ops.apa.apa(x, [lambda, ...], [kappa, ...], axis)        torch.ops.apa.aglu(...)        float -> same

Source: see `modules`. lambda >= 0, 0 meaning the limit; one value, or C along `axis`. Half types are computed
in float32 and rounded once. Derivatives are with respect to x alone: the parameters are trained and done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .maths import GATE, UNIT

NAMESPACE = "apa"
_HALVES = (torch.float16, torch.bfloat16)


def limit_below(dtype: torch.dtype) -> float:
    """The lambda up to which the limit exp(-exp(-kappa*z)) is exact to `dtype`: its machine epsilon.

    The limit differs from APA by at most 0.271 * lambda: max over t of lambda/2 * t^2 * exp(-t).
    """
    return float(torch.finfo(dtype).eps)


def apa(x: Tensor, lambda_: Sequence[float], kappa: Sequence[float], axis: int = 1) -> Tensor:
    """The gate of each element of `x`, in its float type and shape."""
    if x.dtype in _HALVES:
        return apa(x.float(), lambda_, kappa, axis).to(x.dtype)
    lam, k = (_along_axis(values, x, axis) for values in (lambda_, kappa))
    limit = torch.exp(-torch.exp(-k * x))
    ordinary = lam > limit_below(x.dtype)
    if not ordinary.any():
        return limit
    positive = torch.where(ordinary, lam, 1.0)
    t = positive.log() - k * x
    general = torch.exp(-(t.clamp(min=0) + torch.log1p(torch.exp(-t.abs()))) / positive)
    return general if ordinary.all() else torch.where(ordinary, general, limit)


def aglu(x: Tensor, lambda_: Sequence[float], kappa: Sequence[float], axis: int = 1) -> Tensor:
    """The unit of each element of `x`, in its float type and shape."""
    if x.dtype in _HALVES:
        return aglu(x.float(), lambda_, kappa, axis).to(x.dtype)
    return x * apa(x, lambda_, kappa, axis)


def apa_slope(x: Tensor, lambda_: Sequence[float], kappa: Sequence[float], axis: int = 1) -> Tensor:
    """dAPA/dx = kappa * exp(-kappa*x) / (1 + lambda*exp(-kappa*x)) * APA(x), without overflow."""
    lam, k = (_along_axis(values, x, axis) for values in (lambda_, kappa))
    ordinary = lam > limit_below(x.dtype)
    positive = torch.where(ordinary, lam, 1.0)
    general = torch.sigmoid(positive.log() - k * x) / positive * apa(x, lambda_, kappa, axis)
    limit = torch.exp(-k * x - torch.exp(-k * x))
    return k * torch.where(ordinary, general, limit)


def _along_axis(values: Sequence[float], x: Tensor, axis: int) -> Tensor:
    shape = [1] * x.ndim
    if len(values) > 1:
        shape[axis] = len(values)
    return torch.tensor(values, dtype=x.dtype, device=x.device).reshape(shape)


def _apa_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    (x,) = ctx.saved_tensors
    slope = apa_slope(x.float() if x.dtype in _HALVES else x, *ctx.parameters)
    return (grad * slope).to(x.dtype), None, None, None


def _aglu_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    (x,) = ctx.saved_tensors
    wide = x.float() if x.dtype in _HALVES else x
    slope = apa(wide, *ctx.parameters) + wide * apa_slope(wide, *ctx.parameters)
    return (grad * slope).to(x.dtype), None, None, None


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.parameters = inputs
    ctx.save_for_backward(x)


def _register(name: str, formula: Callable[..., Tensor], backward: Callable[..., Any]) -> Any:
    def implementation(x: Tensor, lambda_: Sequence[float], kappa: Sequence[float], axis: int) -> Tensor:
        return formula(x, lambda_, kappa, axis)

    schema = "(Tensor x, float[] lambda_, float[] kappa, int axis) -> Tensor"
    operator = torch.library.custom_op(f"{NAMESPACE}::{name}", implementation, mutates_args=(), schema=schema)
    operator.register_fake(lambda x, lambda_, kappa, axis: torch.empty_like(x))
    operator.register_autograd(backward, setup_context=_remember)
    return operator


FORMULAS: dict[str, Callable[..., Tensor]] = {GATE: apa, UNIT: aglu}
OPERATORS = {
    GATE: _register("apa", apa, _apa_backward),
    UNIT: _register("aglu", aglu, _aglu_backward),
}
