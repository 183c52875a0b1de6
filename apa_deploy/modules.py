"""The Adaptive Parametric Activation: float64 reference and torch modules on effective parameters.

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
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .errors import InputError
from .functional import FORMULAS, OPERATORS, limit_below
from .graph.node import DOMAIN, GATE, UNIT, VERSION, Parameters, attributes

Float64 = NDArray[np.float64]


def freeze(module: nn.Module) -> nn.Module:
    """`module` itself, in eval mode, without gradients; scripted parts refuse `requires_grad_`."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


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
        ordinary = lam > limit_below(torch.float64)
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


def symbolic_of(kind: str) -> Callable[..., Tensor]:
    """What torch.onnx writes as one canonical node; the arguments of `functional.apa`."""

    def symbolic(x: Tensor, lambda_: Sequence[float], kappa: Sequence[float], axis: int) -> Tensor:
        attrs = attributes(Parameters(tuple(lambda_), tuple(kappa), axis))
        name = f"{DOMAIN}::{kind}"
        return torch.onnx.ops.symbolic(name, (x,), attrs=attrs, dtype=x.dtype, shape=x.shape, version=VERSION)

    return symbolic


class _Activation(nn.Module):
    """Shared body of `APA` and `AGLU`.

    Args:
        lambda_: effective lambda >= 0; a float, or C of them (one a channel along `axis`).
        kappa: any finite value; a float, or C of them.
        axis: where the channels lie; negative counts from the end.
        inplace: not done; networks pass it to whatever stands in for their ReLU.

    Under torch.compile and torch.export a call is one node, `torch.ops.apa.aglu` or `.apa`. The parameters are
    Python floats, not buffers: `.double()` of a float32 network then computes with them exactly. Half inputs
    are computed in float32 and rounded once.

    Raises:
        ParameterError: see `effective_parameters`.
    """

    kind: ClassVar[str]

    def __init__(
        self, lambda_: ArrayLike = 1.0, kappa: ArrayLike = 1.0, axis: int = 1, *, inplace: bool = False
    ) -> None:
        super().__init__()
        self.effective = effective_parameters(lambda_, kappa, axis)

    def forward(self, x: Tensor) -> Tensor:
        """The activation of `x`, elementwise, in its own float type and shape."""
        e = self.effective
        if torch.onnx.is_in_onnx_export():
            return symbolic_of(self.kind)(x, e.lambda_, e.kappa, e.axis)
        run = (OPERATORS if torch.compiler.is_compiling() else FORMULAS)[self.kind]
        answer: Tensor = run(x, e.lambda_, e.kappa, e.axis)
        return answer

    def extra_repr(self) -> str:
        e = self.effective
        if len(e.lambda_) == len(e.kappa) == 1:
            return f"lambda={e.lambda_[0]:.6g}, kappa={e.kappa[0]:.6g}"
        return f"{e.channels} channels along axis {e.axis}"


class APA(_Activation):
    """The gate: x -> (1 + lambda*exp(-kappa*x))^(-1/lambda), between 0 and 1."""

    kind = GATE


class AGLU(_Activation):
    """The unit: x -> x * APA(x)."""

    kind = UNIT


MODULES: dict[str, type[_Activation]] = {GATE: APA, UNIT: AGLU}
