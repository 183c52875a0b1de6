"""Upstream's classifiers, by the value of its `--classif_norm`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from .spec import Head

COSINE_SCALE = 16.0


class Cosine(nn.Module):
    """scale * x/(1+|x|) . w/|w|; the scale is 16, or the square of a learned one."""

    def __init__(self, head: Head, learned_scale: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 5.0)) if learned_scale else None
        self.weight = nn.Parameter(torch.empty(head.classes, head.features))

    def forward(self, x: Tensor) -> Tensor:
        scale = COSINE_SCALE if self.scale is None else self.scale**2
        x = x / (1 + x.norm(dim=1, keepdim=True))
        return linear(scale * x, self.weight / self.weight.norm(dim=1, keepdim=True))


class InverseCosine(nn.Module):
    """(1/16) x(1+|x|) . w|w| + b."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(head.classes, head.features))
        self.bias = nn.Parameter(torch.empty(head.classes))

    def forward(self, x: Tensor) -> Tensor:
        x = x * (1 + x.norm(dim=1, keepdim=True)) / COSINE_SCALE
        return linear(x, self.weight * self.weight.norm(dim=1, keepdim=True), self.bias)


class Normed(nn.Module):
    """x/|x| . w/|w| with the weight stored (features, classes) and a bias that is stored but never used."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(head.features, head.classes))
        self.bias = nn.Parameter(torch.empty(head.classes))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, dim=1) @ normalize(self.weight, dim=0)


class Contrastive(nn.Module):
    """The projection beside the classifier of the `con_` networks."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.contrast_reduce = nn.Linear(features, features)
        self.contrast_expand = nn.Linear(features, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.contrast_expand(self.contrast_reduce(x).relu())


def classifier(head: Head) -> nn.Module:
    """The module of one head."""
    if head.norm == "linear":
        return nn.Linear(head.features, head.classes)
    if head.norm == "norm":
        return Normed(head)
    if head.norm == "inv":
        return InverseCosine(head)
    return Cosine(head, learned_scale=head.norm == "lr_cosine")
