"""The activation as torch modules on effective parameters; what they answer: the table in `maths`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .functional import FORMULAS, OPERATORS
from .graph.node import DOMAIN, VERSION, attributes
from .maths import GATE, UNIT, Parameters, effective_parameters


def freeze(module: nn.Module) -> nn.Module:
    """`module` itself, in eval mode, without gradients; scripted parts refuse `requires_grad_`."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


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
