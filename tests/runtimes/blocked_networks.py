"""Small networks whose maps lie in ONNX Runtime's blocked layout, as canonical models."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from apa_deploy.architectures.activations import Learned
from apa_deploy.architectures.resnet import Block, ResNet
from apa_deploy.architectures.spec import Head, Spec
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import activations
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import GATE, UNIT
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation

CHANNELS = 20  # no multiple of a block: its last lanes are padding


def _spec(gate: str) -> Spec:
    return Spec(
        cifar=False, bottleneck=True, depths=(2,), in_channels=3, widths=(CHANNELS,), groups=1,
        base_width=64, gate=gate, learned_units=True, learned_channel_gate=True, learned_spatial_gate=True,
        normed_gate=True, reduction=8, heads=(Head("fc", "linear", 4 * CHANNELS, 7),), contrastive=0,
        unit_floor="relu+1e-8",
    )  # fmt: skip


def resnet(seed: int = 0) -> nn.Module:
    """Two bottleneck blocks without attention, the first with a downsampling shortcut."""
    torch.manual_seed(seed)
    return with_values(ResNet(_spec("none")).eval())


def attention(seed: int = 0) -> nn.Module:
    """Four blocks: SE with a downsampling shortcut, SE, CBAM, and the spatial gate alone."""
    torch.manual_seed(seed)
    network = ResNet(_spec("se"))
    for gate in ("cbam", "spatial"):
        network.layer1.append(Block(4 * CHANNELS, CHANNELS, 1, _spec(gate)))
    return with_values(network.eval())


def with_values(network: nn.Module) -> nn.Module:
    """Weights and statistics that keep the signal alive; a third of the units at the floor of lambda."""
    for module in network.modules():
        if isinstance(module, Learned):
            module.lambda_param.data.uniform_(-0.5, 1.0)
            module.kappa_param.data.uniform_(*((0.8, 1.2) if module.kind == "AGLU" else (-1.0, 0.0)))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


class PerChannel(nn.Sequential):
    """Two convolutions with units whose parameters differ from channel to channel; a unit on a vector."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        first, second = (RawActivation(shape=(1, CHANNELS, 1, 1)) for _ in range(2))
        for unit in (first, second):
            unit.lambda_param.data.uniform_(-0.3, 1.5)
            unit.kappa_param.data.uniform_(0.5, 1.5)
        convolutions = nn.Conv2d(3, CHANNELS, 3, 2), nn.Conv2d(CHANNELS, CHANNELS, 3)
        vector = nn.AdaptiveAvgPool2d(1), nn.Flatten(), RawActivation(0.7), nn.Linear(CHANNELS, 4)
        super().__init__(convolutions[0], first, convolutions[1], second, *vector)
        with_values(self).eval()


def exported(network: nn.Module, path: Path) -> Path:
    """The network as an `onnx-custom` file with dynamic sizes."""
    proto = TorchNetwork(network, image_signature((3, 32, 32)), Metadata("net")).trace().proto
    onnx.save(with_functions(proto), path)
    return path


def relu_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, with ReLU and sigmoid for units and gates."""
    for node in activations(model.graph):
        node.op_type, node.domain = {UNIT: "Relu", GATE: "Sigmoid"}[node.op_type], ""
        del node.attribute[:]
    del model.functions[:]
    return model
