"""A detector backbone and neck in the manner of YOLOv8, with learned units: splits, concatenations, upsampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apa_deploy.architectures.activations import Learned
from benchmarks.upstream_form import UpstreamForm


class ConvUnit(nn.Sequential):
    """Convolution, batch norm, unit."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1) -> None:
        unit = Learned("AGLU", "relu+1e-8")
        unit.__class__ = UpstreamForm
        convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), unit)


class Bottleneck(nn.Module):
    """Two convolutions and, where `shortcut`, their input added."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.first, self.second = ConvUnit(channels, channels, 3), ConvUnit(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class Split(nn.Module):
    """Half of the channels pass through `depth` bottlenecks; every stage is concatenated."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.enter, self.leave = ConvUnit(inputs, outputs), ConvUnit((2 + depth) * half, outputs)
        self.stages = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for stage in self.stages:
            parts.append(stage(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class PyramidPool(nn.Module):
    """Three poolings in a row, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.leave = ConvUnit(channels, channels // 2), ConvUnit(channels * 2, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class YoloLike(nn.Module):
    """Three maps of shape (N, 64 + classes, H / s, W / s), s = 8, 16 and 32."""

    def __init__(self, width: int = 16, classes: int = 80) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(ConvUnit(3, w, 3, 2), ConvUnit(w, 2 * w, 3, 2), Split(2 * w, 2 * w, 1))
        self.stage3 = nn.Sequential(ConvUnit(2 * w, 4 * w, 3, 2), Split(4 * w, 4 * w, 2))
        self.stage4 = nn.Sequential(ConvUnit(4 * w, 8 * w, 3, 2), Split(8 * w, 8 * w, 2))
        self.stage5 = nn.Sequential(ConvUnit(8 * w, 16 * w, 3, 2), Split(16 * w, 16 * w, 1), PyramidPool(16 * w))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up4, self.up3 = Split(24 * w, 8 * w, 1, False), Split(12 * w, 4 * w, 1, False)
        self.down3, self.down4 = ConvUnit(4 * w, 4 * w, 3, 2), ConvUnit(8 * w, 8 * w, 3, 2)
        self.out4, self.out5 = Split(12 * w, 8 * w, 1, False), Split(24 * w, 16 * w, 1, False)
        self.heads = nn.ModuleList(self._head(c * w, 64 + classes) for c in (4, 8, 16))

    @staticmethod
    def _head(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(ConvUnit(inputs, 64, 3), ConvUnit(64, 64, 3), nn.Conv2d(64, outputs, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        p3 = self.stage3(self.stem(x))
        p4 = self.stage4(p3)
        p5 = self.stage5(p4)
        n4 = self.up4(torch.cat([self.up(p5), p4], 1))
        n3 = self.up3(torch.cat([self.up(n4), p3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), n4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], 1))
        return tuple(head(map_) for head, map_ in zip(self.heads, (n3, n4, n5), strict=True))


def yolo_like(seed: int = 0) -> YoloLike:
    """Random weights; a third of the units at the floor, as training leaves them."""
    torch.manual_seed(seed)
    network = YoloLike().eval()
    for module in network.modules():
        if isinstance(module, Learned):
            module.lambda_param.data.uniform_(-0.5, 1.0)
            module.kappa_param.data.uniform_(0.8, 1.2)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    return network
