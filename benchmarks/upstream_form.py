"""SE-ResNet50 with 65 learned activations, evaluated the way upstream writes them: what users export today."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from apa_deploy.architectures.activations import Learned
from apa_deploy.architectures.resnet import ResNet
from apa_deploy.architectures.spec import Head, Spec

SE_RESNET50 = Spec(
    cifar=False,
    bottleneck=True,
    depths=(3, 4, 6, 3),
    in_channels=3,
    widths=(64, 128, 256, 512),
    groups=1,
    base_width=64,
    gate="se",
    learned_units=True,
    learned_channel_gate=True,
    learned_spatial_gate=False,
    normed_gate=True,
    reduction=16,
    heads=(Head("fc", "linear", 2048, 1000),),
    contrastive=0,
    unit_floor="relu+1e-8",
)


class UpstreamForm(Learned):
    """exp(softplus_{beta=-1}(kappa*z - ln lambda) / lambda), in torch operators that every exporter traces."""

    def forward(self, x: Tensor) -> Tensor:
        raw = self.lambda_param
        lambda_ = raw.relu() + 1e-8 if self.floor == "relu+1e-8" else raw.clamp(min=1e-4)
        inner = softplus(self.kappa_param * x - lambda_.log(), beta=-1.0, threshold=20)
        gate = torch.exp(inner / lambda_)
        return x * gate if self.kind == "AGLU" else gate


def se_resnet50(seed: int = 0) -> ResNet:
    """SE-ResNet50 with values as in `resnet50`."""
    return resnet50(SE_RESNET50, seed)


def resnet50(spec: Spec, seed: int = 0) -> ResNet:
    """Random weights; a third of the units at the floor and statistics in step with the weights, as training leaves
    them: what reaches an activation is about one wide, where most of its work is done.
    """
    torch.manual_seed(seed)
    network = ResNet(spec).eval()
    for name, module in network.named_modules():
        if isinstance(module, Learned):
            module.__class__ = UpstreamForm
            module.lambda_param.data.uniform_(-0.5, 1.0)
            module.kappa_param.data.uniform_(*((0.8, 1.2) if module.kind == "AGLU" else (-1.0, 0.0)))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5).mul_(0.5 if name.endswith("bn3") else 1.0)
            module.momentum = None  # running statistics are those of the batch below
            module.train()
    with torch.inference_mode():
        network(torch.randn(4, 3, 160, 160))
    return network.eval()
