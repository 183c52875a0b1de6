"""Upstream's ResNets, ImageNet and CIFAR, from a `Spec`; attributes carry the checkpoints' names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from .activations import unit
from .attention import CBAM, SqueezeExcite
from .heads import Contrastive, classifier
from .spec import Spec


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)


class OptionA(nn.Module):
    """CIFAR's shortcut without parameters: every second pixel, zero channels on both sides."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes

    def forward(self, x: Tensor) -> Tensor:
        return pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4))


class Block(nn.Module):
    """A basic or bottleneck block: convolutions, attention gate, residual addition, unit."""

    def __init__(self, inputs: int, planes: int, stride: int, spec: Spec) -> None:
        super().__init__()
        self.outputs = planes * (4 if spec.bottleneck else 1)
        self.layers = 3 if spec.bottleneck else 2
        self._add_convolutions(inputs, planes, stride, spec)
        for i in range(1, self.layers + 1):
            setattr(self, f"unirect{i}", unit(spec.learned_units, spec.unit_floor))
        self._gate = _add_gate(self, self.outputs, spec)
        self.downsample = self._shortcut(inputs, stride, spec)

    def _add_convolutions(self, inputs: int, planes: int, stride: int, spec: Spec) -> None:
        width = planes * spec.base_width // 64 * spec.groups
        if spec.bottleneck:
            self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _conv(width, width, 3, stride, spec.groups), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = _conv(width, self.outputs, 1), nn.BatchNorm2d(self.outputs)
        else:
            self.conv1, self.bn1 = _conv(inputs, planes, 3, stride), nn.BatchNorm2d(planes)
            self.conv2, self.bn2 = _conv(planes, planes, 3), nn.BatchNorm2d(planes)

    def _shortcut(self, inputs: int, stride: int, spec: Spec) -> nn.Module:
        if stride == 1 and inputs == self.outputs:
            return nn.Identity()
        if spec.cifar:
            return OptionA(self.outputs)
        return nn.Sequential(_conv(inputs, self.outputs, 1, stride), nn.BatchNorm2d(self.outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.layers + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.layers:
                y = getattr(self, f"unirect{i}")(y)
        if self._gate:
            y = getattr(self, self._gate)(y)
        return getattr(self, f"unirect{self.layers}")(y + self.downsample(x))


def _add_gate(block: nn.Module, channels: int, spec: Spec) -> str:
    """Add the attention of `spec` under its checkpoint's name, and return that name."""
    if spec.gate == "none":
        return ""
    name = "se" if spec.gate == "se" else "cb" if spec.cifar else "cbam"
    block.add_module(name, (SqueezeExcite if spec.gate == "se" else CBAM)(channels, spec))
    return name


class ResNet(nn.Module):
    """Logits of shape (N, classes); a tuple where there are two outputs; a backbone's stages as a tuple.

    Input: (N, in_channels, H, W), float. CIFAR networks want square input: upstream's pooling reads the
    width for both sides.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        stem = 16 if spec.cifar else 64
        self.conv1 = nn.Conv2d(spec.in_channels, stem, *((3, 1, 1) if spec.cifar else (7, 2, 3)), bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self._stem_unit = "unirect" if spec.cifar else "relu"
        self.add_module(self._stem_unit, unit(spec.learned_units, spec.unit_floor))
        self.maxpool = nn.Identity() if spec.cifar else nn.MaxPool2d(3, 2, 1)
        self._add_stages(stem)
        for head in spec.heads:
            self.add_module(head.name, classifier(head))
        if spec.contrastive:
            self.contrastive = Contrastive(spec.heads[0].features, spec.contrastive)

    def _add_stages(self, channels: int) -> None:
        for i, (depth, planes) in enumerate(zip(self.spec.depths, self.spec.widths, strict=True)):
            blocks = []
            for j in range(depth):
                block = Block(channels, planes, 2 if i and not j else 1, self.spec)
                blocks.append(block)
                channels = block.outputs
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.maxpool(getattr(self, self._stem_unit)(self.bn1(self.conv1(x))))
        stages = []
        for i in range(len(self.spec.depths)):
            x = getattr(self, f"layer{i + 1}")(x)
            stages.append(x)
        if self.spec.backbone:
            return tuple(stages)
        pooled = x.mean((2, 3))
        outputs = [getattr(self, head.name)(pooled) for head in self.spec.heads]
        if self.spec.contrastive:
            outputs.append(self.contrastive(pooled))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)
