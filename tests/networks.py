"""Small networks for tests: raw activations in every spelling, and a tiny SE network."""

from __future__ import annotations

import torch
from torch import nn


class RawActivation(nn.Module):
    """A learned activation as a training code would write it."""

    def __init__(self, lambda_=0.5, kappa=1.0, *, kind="AGLU", floor="relu+1e-8", shape=(1,)):
        super().__init__()
        self.kind, self.floor = kind, floor
        self.lambda_param = nn.Parameter(torch.full(shape, float(lambda_)))
        self.kappa_param = nn.Parameter(torch.full(shape, float(kappa)))

    def forward(self, x):
        raw = self.lambda_param
        lam = raw.relu() + 1e-8 if self.floor == "relu+1e-8" else raw.clamp(min=1e-4)
        inner = nn.functional.softplus(self.kappa_param * x - lam.log(), beta=-1.0, threshold=20)
        gate = torch.exp(inner / lam)
        return x * gate if self.kind == "AGLU" else gate


class SqueezeExcite(nn.Module):
    def __init__(self, channels, gate):
        super().__init__()
        self.reduce, self.expand = nn.Linear(channels, channels // 2), nn.Linear(channels // 2, channels)
        self.gate = gate

    def forward(self, x):
        y = self.expand(self.reduce(x.mean((2, 3))).relu())
        return x * self.gate(y[:, :, None, None])


class TinyNet(nn.Module):
    """conv, bn, unit, squeeze-and-excite with a gate, unit, pool, linear."""

    def __init__(self, channels=8, classes=5):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.act1 = RawActivation(0.6, 1.1)
        self.se = SqueezeExcite(channels, RawActivation(0.8, -0.5, kind="APA", floor="clamp 1e-4"))
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.act2 = RawActivation(-0.2, 0.9)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.se(self.act1(self.bn1(self.conv1(x))))
        return self.fc(self.act2(self.bn2(self.conv2(x))).mean((2, 3)))


def tiny_net(seed=0, **sizes):
    """A `TinyNet` in eval mode with weights and statistics from `seed`."""
    torch.manual_seed(seed)
    net = TinyNet(**sizes).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return net


class Silent(nn.Module):
    """Its forward ends without a return."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        self.conv(x)


def raises():
    raise RuntimeError("no kernel image")


def ends():
    raise SystemExit("usage: train.py CONFIG")
