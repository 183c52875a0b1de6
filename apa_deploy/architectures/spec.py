"""What distinguishes one of upstream's networks from another, and the name it goes by."""

from __future__ import annotations

from dataclasses import dataclass

GATES = ("none", "se", "cbam", "spatial")

_BOTTLENECKS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_BASICS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
_PREFIX = {"none": "", "se": "se_", "cbam": "cb_", "spatial": "sp_"}


@dataclass(frozen=True)
class Head:
    """One classifier: its attribute name, which of `NORMS` it is, its width in and out."""

    name: str
    norm: str
    features: int
    classes: int


@dataclass(frozen=True)
class Spec:
    """A ResNet of upstream's families. `depths`: blocks a stage; `heads` empty: a backbone."""

    cifar: bool
    bottleneck: bool
    depths: tuple[int, ...]
    in_channels: int
    widths: tuple[int, ...]  # planes of each stage
    groups: int
    base_width: int
    gate: str  # one of GATES
    learned_units: bool  # AGLU instead of ReLU
    learned_channel_gate: bool  # APA instead of sigmoid
    learned_spatial_gate: bool
    normed_gate: bool  # LayerNorm before an SE gate's two linear layers
    reduction: int
    heads: tuple[Head, ...]
    contrastive: int  # width of the contrastive features, 0 without
    unit_floor: str  # key of apa_deploy.replace.FLOORS

    @property
    def name(self) -> str:
        """Upstream's name, e.g. se_resnext50_32x4d, cb_resnet32, tb_resnet32."""
        branch = "con_" if self.contrastive else "tb_" if len(self.heads) == 2 else ""
        return branch + _PREFIX[self.gate] + self._plain_name()

    @property
    def backbone(self) -> bool:
        """Whether the network answers with its stages' feature maps (mmdet)."""
        return not self.heads

    @property
    def output_names(self) -> tuple[str, ...]:
        """`logits`; two heads `logits1, logits2`; contrastive `logits, features`; a backbone `stage1, ...`."""
        if self.backbone:
            return tuple(f"stage{i + 1}" for i in range(len(self.depths)))
        if len(self.heads) == 2:
            return ("logits1", "logits2")
        return ("logits", "features") if self.contrastive else ("logits",)

    def _plain_name(self) -> str:
        if self.cifar:
            return f"resnet{2 * sum(self.depths) + 2}"
        depth = (_BOTTLENECKS if self.bottleneck else _BASICS).get(self.depths)
        if depth is None:
            return f"resnet{list(self.depths)}"
        if self.groups > 1:
            return f"resnext{depth}_{self.groups}x{self.base_width}d"
        return f"wide_resnet{depth}_{self.base_width // 64}" if self.base_width != 64 else f"resnet{depth}"
