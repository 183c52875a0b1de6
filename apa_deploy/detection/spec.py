"""What a detector consists of: plain data, from which the torch rebuild and the graph are each made."""

from __future__ import annotations

from dataclasses import dataclass

Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class Coder:
    """DeltaXYWH: box = decode(delta * std + mean)."""

    means: Four = (0.0, 0.0, 0.0, 0.0)
    stds: Four = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Rpn:
    """Anchors of `scales` x `ratios` on each stride, and which of them become proposals."""

    scales: tuple[float, ...] = (8.0,)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    coder: Coder = Coder()
    before_nms: int = 1000  # of a level
    nms_iou: float = 0.7
    proposals: int = 1000
    smallest: float = 0.0  # a box must be wider and higher


@dataclass(frozen=True)
class Predictor:
    """A last layer: "linear", "wclinear", or "normed" (linear or 1x1 convolution).

    `scale`: WCLinear's s. `temperature`: of the normed ones; `learned`: it is the square of a parameter.
    """

    kind: str = "linear"
    scale: float = 300.0
    temperature: float = 20.0
    learned: bool = False
    power: float = 1.0
    eps: float = 1e-6


@dataclass(frozen=True)
class RoiAlign:
    """Average RoIAlign, half-pixel aligned. `samples` 0: as many a bin as it has pixels."""

    size: int = 7
    samples: int = 0
    finest: int = 56
    strides: tuple[float, ...] = (4, 8, 16, 32)


@dataclass(frozen=True)
class BoxHead:
    """Shared fully connected layers, then class scores and boxes. `prefix`: of its keys, ends in a dot.

    `classes`: foreground. `background`: whether the scores have a last column for it. `score`: softmax,
    gumbel (exp(-exp(-x))) or sigmoid.
    """

    prefix: str
    classes: int
    background: bool
    score: str
    agnostic: bool
    layers: int = 2
    predictor: Predictor = Predictor()
    coder: Coder = Coder(stds=(0.1, 0.1, 0.2, 0.2))


@dataclass(frozen=True)
class MaskHead:
    """3x3 convolutions, an upsampling by 2 ("deconv", "carafe"), then a map a class, or one for all."""

    prefix: str
    layers: int = 4
    upsample: str = "deconv"
    carafe_kernel: int = 5
    agnostic: bool = False
    predictor: Predictor = Predictor()
    align: RoiAlign = RoiAlign(14)


@dataclass(frozen=True)
class DetectorSpec:
    """One two-stage detector. Several box heads: a cascade. `masks` empty: boxes alone.

    `mean`, `std`: of RGB pixels of 0 to 255. `resize`: the longer and the shorter side at most;
    without `keep_ratio` width and height.
    `score_thr`, `nms_iou`, `max_detections`: of the last NMS. `mask_thr`: where a mask's probability counts.
    """

    name: str
    backbone: str
    rpn: Rpn
    boxes: tuple[BoxHead, ...]
    masks: tuple[MaskHead, ...] = ()
    align: RoiAlign = RoiAlign(7)
    score_thr: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    mask_thr: float = 0.5
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    bgr: bool = True  # pixels are read as BGR and swapped
    divisor: int = 32
    resize: tuple[int, int] = (1333, 800)
    keep_ratio: bool = True

    @property
    def classes(self) -> int:
        """Foreground classes."""
        return self.boxes[0].classes

    @property
    def output_names(self) -> tuple[str, ...]:
        """What end2end gives, in this order."""
        return ("boxes", "scores", "labels", *(("masks",) if self.masks else ()), "num")


RAW_OUTPUTS = ("proposals", "cls_score", "bbox_pred")
# What a detector has before its first NMS: decoded boxes (N, levels * k, 4), scores (N, levels, k), and P2..P5.
PRE_NMS_OUTPUTS = ("rpn_boxes", "rpn_scores", "fpn0", "fpn1", "fpn2", "fpn3")
IMAGES, VALID = "images", "valid_wh"
