"""Squeeze-and-excite and CBAM gates, with the attribute names of upstream's checkpoints.

Each is applied to the residual branch before the addition. Pooling is global, so that the graph is not
bound to one input size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .activations import gate
from .spec import Spec


class SqueezeExcite(nn.Module):
    """Global average, [LayerNorm], two linear layers, gate. CIFAR spells the gate `unact`."""

    def __init__(self, channels: int, spec: Spec) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if spec.normed_gate else nn.Identity()
        inner = channels // spec.reduction
        self.excitation = nn.Sequential(
            nn.Linear(channels, inner, bias=False), nn.ReLU(), nn.Linear(inner, channels, bias=False)
        )
        self._gate = "unact" if spec.cifar else "uniact"
        self.add_module(self._gate, gate(spec.learned_channel_gate))

    def forward(self, x: Tensor) -> Tensor:
        y = self.excitation(self.norm(x.mean((2, 3))))
        return x * getattr(self, self._gate)(y[:, :, None, None])


class ChannelGate(nn.Module):
    """CBAM's first half: one normalised MLP over the average and the maximum of each channel."""

    def __init__(self, channels: int, spec: Spec) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        inner = channels // spec.reduction
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels))
        self.uniact = gate(spec.learned_channel_gate)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(x.mean((2, 3)))) + self.mlp(self.norm(x.amax((2, 3))))
        return x * self.uniact(y[:, :, None, None])


class _Spatial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class SpatialGate(nn.Module):
    """CBAM's second half: a 7x7 convolution over the maximum and the mean across channels, in this order."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spatial = _Spatial()
        self.uniact = gate(spec.learned_spatial_gate)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * self.uniact(self.spatial(pooled))


class CBAM(nn.Module):
    """Channel gate, then spatial gate; the spatial one alone in the `sp_` networks."""

    def __init__(self, channels: int, spec: Spec) -> None:
        super().__init__()
        if spec.gate == "cbam":
            self.ChannelGate = ChannelGate(channels, spec)
        self.SpatialGate = SpatialGate(spec)

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x) if hasattr(self, "ChannelGate") else x)
