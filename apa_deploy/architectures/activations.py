"""The activations of upstream's networks as they are trained: raw parameters, and a floor on lambda."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..maths import GATE, UNIT
from ..modules import MODULES
from ..replace import FLOORS

GATE_FLOOR = "clamp 1e-4"


class Learned(nn.Module):
    """Raw `lambda_param` and `kappa_param` of shape (1,), evaluated as upstream does, in float64 if asked."""

    def __init__(self, kind: str, floor: str) -> None:
        super().__init__()
        self.kind, self.floor = kind, floor
        self.lambda_param = nn.Parameter(torch.ones(1))
        self.kappa_param = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        lambda_ = FLOORS[self.floor](self.lambda_param.detach().double().cpu().numpy())
        kappa = self.kappa_param.detach().double().cpu().numpy()
        return cast(Tensor, MODULES[self.kind](lambda_, kappa)(x))

    def extra_repr(self) -> str:
        return f"{self.kind}, floor={self.floor}"


def unit(learned: bool, floor: str) -> nn.Module:
    """AGLU, or the ReLU of the plain networks."""
    return Learned(UNIT, floor) if learned else nn.ReLU()


def gate(learned: bool) -> nn.Module:
    """APA, or the sigmoid of the plain networks."""
    return Learned(GATE, GATE_FLOOR) if learned else nn.Sigmoid()
