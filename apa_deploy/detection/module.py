"""The detector in torch, rebuilt from its spec: the reference in float64, under mmdet's names of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .boxes import decode, nms, nms_by_class, roi_align
from .spec import BoxHead, DetectorSpec, MaskHead, Predictor

_MASKS_AT_ONCE = 32  # maps of 256 x 28 x 28 in float64 are 1.6 MB each


@dataclass
class Detections:
    """Of one image: boxes (K, 4), scores, labels, the proposals they came from (K,), masks (K, 28, 28)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    rois: Tensor
    masks: Tensor | None


class _Conv(nn.Module):
    """mmcv's ConvModule without norm and activation: its key is `conv`."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class FPN(nn.Module):
    """C2..C5 -> P2..P6."""

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_Conv(c, channels, 1) for c in inputs)
        self.fpn_convs = nn.ModuleList(_Conv(channels, channels, 3) for _ in inputs)
        self.stored = nn.Identity()  # what a module returns is rounded where a half type is studied

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, stages, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            size = laterals[i - 1].shape[2:]
            upsampled = functional.interpolate(laterals[i], size=size, mode="nearest")
            laterals[i - 1] = self.stored(laterals[i - 1] + upsampled)
        pyramid = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]
        return [*pyramid, pyramid[-1][:, :, ::2, ::2]]


class RPN(nn.Module):
    """Objectness and deltas of every anchor."""

    def __init__(self, channels: int, inner: int, anchors: int) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(channels, inner, 3, padding=1)
        self.rpn_cls = nn.Conv2d(inner, anchors, 1)
        self.rpn_reg = nn.Conv2d(inner, 4 * anchors, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        hidden = [self.rpn_conv(x).relu() for x in pyramid]
        return [self.rpn_cls(x) for x in hidden], [self.rpn_reg(x) for x in hidden]


class Classifier(nn.Module):
    """A last layer of class scores on (n, inputs), or on maps (n, inputs, H, W): Linear, WCLinear, Normed*.

    Formulas: mmdet's NormedLinear and NormedConv2d; upstream's WCLinear, whose bias lies inside the cosine.
    """

    weight: Tensor
    bias: Tensor
    g: Tensor
    tempearture: Tensor

    def __init__(self, predictor: Predictor, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.predictor = predictor
        self.stores_weights = predictor.kind != "wclinear"  # whose weights stay float32 in a half type
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Scores (n, C); on maps with `rows` (n,) each sample's one class (n, H, W)."""
        weight, bias = self.weight.flatten(1), self.bias
        p = self.predictor
        if p.kind == "wclinear":
            x, weight = (v / (v.norm(dim=1, keepdim=True) + p.eps) for v in (x, weight))
            cosine = functional.linear(x, weight, bias)
            gamma = self.g.sigmoid()
            scale = getattr(self, "s_", p.scale)
            # 3.14 is upstream's; the denominator has no guard there, as the bias can make |cosine| > 1
            return scale * (1 / 2 / 3.14) * (1 - gamma**2) / (1 + gamma**2 - 2 * gamma * cosine)
        if p.kind == "normed":
            x = x / (x.norm(dim=1, keepdim=True) ** p.power + p.eps)
            x = x * (self.tempearture**2 if p.learned else p.temperature)
            weight = weight / (weight.norm(dim=1, keepdim=True) ** p.power + p.eps)
        if rows is None:
            return functional.linear(x, weight, bias)
        return torch.einsum("nchw,nc->nhw", x, weight[rows]) + bias[rows, None, None]


class BoxHeadModule(nn.Module):
    """Two fully connected layers and the predictors."""

    def __init__(self, head: BoxHead, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.head = head
        sizes = [shapes[f"shared_fcs.{i}.weight"] for i in range(head.layers)]
        self.shared_fcs = nn.ModuleList(nn.Linear(s[1], s[0]) for s in sizes)
        self.fc_cls = _classifier("fc_cls", head.predictor, shapes)
        self.fc_reg = nn.Linear(sizes[-1][0], shapes["fc_reg.weight"][0])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = features.flatten(1)
        for layer in self.shared_fcs:
            x = layer(x).relu()
        return self.fc_cls(x), self.fc_reg(x)


class Carafe(nn.Module):
    """Content-aware upsampling by 2: each output pixel is a mean over a window with weights of its own."""

    def __init__(self, kernel: int, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.kernel = kernel
        self.channel_compressor = _conv("upsample.channel_compressor", shapes)
        self.content_encoder = _conv("upsample.content_encoder", shapes)

    def forward(self, x: Tensor) -> Tensor:
        weights = functional.pixel_shuffle(self.content_encoder(self.channel_compressor(x)), 2).softmax(1)
        k, (height, width) = self.kernel, x.shape[2:]
        padded = functional.pad(x, [k // 2] * 4)
        total = x.new_zeros(*x.shape[:2], 2 * height, 2 * width)
        for i, weight in enumerate(weights.unbind(1)):  # all windows at once would be 25 times the maps
            y, x0 = divmod(i, k)
            shifted = padded[:, :, y : y + height, x0 : x0 + width]
            total += functional.interpolate(shifted, scale_factor=2, mode="nearest") * weight[:, None]
        return total


class MaskHeadModule(nn.Module):
    """Convolutions, an upsampling by 2, and one map of the label's class."""

    def __init__(self, head: MaskHead, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.head = head
        sizes = [shapes[f"convs.{i}.conv.weight"] for i in range(head.layers)]
        self.convs = nn.ModuleList(_Conv(s[1], s[0], s[2]) for s in sizes)
        self.upsample: nn.Module = (
            Carafe(head.carafe_kernel, shapes)
            if head.upsample == "carafe"
            else nn.ConvTranspose2d(shapes["upsample.weight"][0], shapes["upsample.weight"][1], 2, stride=2)
        )
        self.conv_logits = _classifier("conv_logits", head.predictor, shapes)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        x = features
        for conv in self.convs:
            x = conv(x).relu()
        x = self.upsample(x)
        x = x if self.head.upsample == "carafe" else x.relu()
        return self.conv_logits(x, torch.zeros_like(labels) if self.head.agnostic else labels)


class _RoiHead(nn.Module):
    """Container with mmdet's names: one head, or a list of a cascade's."""

    def __init__(self, boxes: list[nn.Module], masks: list[nn.Module]) -> None:
        super().__init__()
        self.bbox_head = boxes[0] if len(boxes) == 1 else nn.ModuleList(boxes)
        if masks:
            self.mask_head = masks[0] if len(masks) == 1 else nn.ModuleList(masks)

    @property
    def boxes(self) -> list[Any]:
        return list(self.bbox_head) if isinstance(self.bbox_head, nn.ModuleList) else [self.bbox_head]

    @property
    def masks(self) -> list[Any]:
        found = getattr(self, "mask_head", [])
        return list(found) if isinstance(found, (nn.ModuleList, list)) else [found]


class Detector(nn.Module):
    """`forward(images, valid_wh)`: images (N, 3, H, W) normalised and padded, valid_wh (N, 2) width and height.

    Gives what an exported detector gives: boxes (N, K, 4), scores (N, K), labels (N, K) int64, masks
    (N, K, 28, 28) where it has some, num (N,) int64; zeros behind the last detection.

    With `raw`: proposals (N, R, 5), class logits (N, R, C), deltas (N, R, 4 or 4C); those of a proposal that is
    none (score 0) say nothing.
    """

    raw = False

    def __init__(self, spec: DetectorSpec, backbone: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.detector = spec
        self.backbone = backbone
        laterals = [shapes[f"neck.lateral_convs.{i}.conv.weight"] for i in range(4)]
        self.neck = FPN([s[1] for s in laterals], laterals[0][0])
        self.stored = nn.Identity()
        inner, channels = shapes["rpn_head.rpn_conv.weight"][:2]
        self.rpn_head = RPN(channels, inner, shapes["rpn_head.rpn_cls.weight"][0])
        self.roi_head = _RoiHead(
            [BoxHeadModule(head, _below(head.prefix, shapes)) for head in spec.boxes],
            [MaskHeadModule(head, _below(head.prefix, shapes)) for head in spec.masks],
        )

    def forward(self, images: Tensor, valid_wh: Tensor) -> tuple[Tensor, ...]:
        if self.raw:
            return self._raw(images, valid_wh)
        found = self.detect(images, valid_wh)
        most = self.detector.max_detections
        names = ("boxes", "scores", "labels", "masks") if self.detector.masks else ("boxes", "scores", "labels")
        outputs = [torch.stack([_pad(getattr(one, name), most) for one in found]) for name in names]
        return (*outputs, torch.tensor([len(one.scores) for one in found]))

    def detect(self, images: Tensor, valid_wh: Tensor) -> list[Detections]:
        """The detections of each image."""
        pyramid = self.neck(self.backbone(images))
        objectness, deltas = self.rpn_head(pyramid)
        found = []
        for i, valid in enumerate(valid_wh.to(images.dtype)):
            maps = [level[i] for level in pyramid]
            proposals = self.proposals([o[i] for o in objectness], [d[i] for d in deltas], valid)
            scores, boxes, _ = self.heads(maps, proposals[:, :4], valid)
            found.append(self.final(maps, scores, boxes))
        return found

    def _raw(self, images: Tensor, valid_wh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pyramid = self.neck(self.backbone(images))
        objectness, deltas = self.rpn_head(pyramid)
        found = []
        for i, valid in enumerate(valid_wh.to(images.dtype)):
            proposals = self.proposals([o[i] for o in objectness], [d[i] for d in deltas], valid)
            proposals = _pad(proposals, self.detector.rpn.proposals)
            logits, _, stages = self.heads([level[i] for level in pyramid], proposals[:, :4], valid)
            found.append((proposals, logits, stages[-1][2]))
        proposals, logits, boxes = (torch.stack(parts) for parts in zip(*found, strict=True))
        return proposals, logits, boxes

    def proposals(self, objectness: Sequence[Tensor], deltas: Sequence[Tensor], valid: Tensor) -> Tensor:
        """Proposals (n, 5) of one image, x1 y1 x2 y2 score, by falling score."""
        rpn = self.detector.rpn
        found = []
        for stride, scores, delta in zip(rpn.strides, objectness, deltas, strict=True):
            anchors = self._anchors(stride, scores.shape[1:], delta.dtype)
            flat = scores.permute(1, 2, 0).flatten().sigmoid()
            best, order = flat.sort(descending=True, stable=True)
            best, order = best[: rpn.before_nms], order[: rpn.before_nms]
            boxes = decode(anchors[order], delta.permute(1, 2, 0).reshape(-1, 4)[order], rpn.coder, valid)
            large = ((boxes[:, 2:] - boxes[:, :2]) > rpn.smallest).all(1)
            boxes, best = boxes[large], best[large]
            kept = nms(boxes, best, rpn.nms_iou)
            found.append(torch.cat([boxes[kept], best[kept, None]], dim=1))
        every = torch.cat(found)
        order = every[:, 4].sort(descending=True, stable=True)[1]
        return every[order[: rpn.proposals]]

    def _anchors(self, stride: int, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """(H*W*A, 4): around the origin in float32, as upstream computes them; moved to their places in `dtype`."""
        rpn = self.detector.rpn
        ratios = torch.tensor(rpn.ratios).sqrt()
        scales = torch.tensor(rpn.scales)
        heights = (stride * ratios[:, None] * scales[None]).flatten()
        widths = (stride * (1 / ratios)[:, None] * scales[None]).flatten()
        base = torch.stack([-0.5 * widths, -0.5 * heights, 0.5 * widths, 0.5 * heights], dim=1)
        y, x = (torch.arange(n, dtype=dtype) * stride for n in size)
        grid = torch.stack([x[None].expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
        return (torch.cat([grid, grid], dim=-1)[:, :, None] + base.to(dtype)).reshape(-1, 4)

    def heads(
        self, maps: list[Tensor], rois: Tensor, valid: Tensor, given: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Class logits (R, C), final boxes (R, 1 or C, 4), and of each stage its RoIs, logits and deltas.

        `given`: RoIs of the later stages of a cascade, instead of those that the stage before makes.
        """
        stages = []
        for k, head in enumerate(self.roi_head.boxes):
            logits, deltas = head(self.stored(roi_align(maps, rois, self.detector.align)))
            stages.append((rois, logits, deltas))
            boxes = decode(rois[:, None], deltas.reshape(len(rois), -1, 4), head.head.coder, valid)
            if k + 1 < len(self.roi_head.boxes):
                rois = given[k] if given else _best_boxes(boxes, logits, head.head)
        mean = torch.stack([logits for _, logits, _ in stages]).mean(0)
        return mean, boxes, stages

    def scores(self, logits: Tensor) -> Tensor:
        """Scores (R, C) of the foreground classes."""
        head = self.detector.boxes[0]
        if head.score == "gumbel":
            return (-(-logits).exp()).exp()
        scores = logits.sigmoid() if head.score == "sigmoid" else logits.softmax(1)
        return scores[:, : head.classes]

    def final(self, maps: list[Tensor], logits: Tensor, boxes: Tensor, with_masks: bool = True) -> Detections:
        """The last NMS, and the masks of what it keeps."""
        spec, scores = self.detector, self.scores(logits)
        kept = nms_by_class(boxes, scores, spec.nms_iou, spec.score_thr, spec.max_detections)
        chosen = boxes[kept.rois, kept.labels if boxes.shape[1] > 1 else 0]
        masks = self.masks(maps, chosen, kept.labels) if spec.masks and with_masks else None
        return Detections(chosen, scores[kept.rois, kept.labels], kept.labels, kept.rois, masks)

    def masks(self, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Mask probabilities (n, 28, 28) of boxes and labels, the mean over the heads."""
        parts = zip(boxes.split(_MASKS_AT_ONCE), labels.split(_MASKS_AT_ONCE), strict=True)
        found = [torch.stack([x.sigmoid() for x in self.mask_logits(maps, *part)]).mean(0) for part in parts]
        return torch.cat(found)

    def mask_logits(self, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> list[Tensor]:
        """Logits (n, 28, 28) of each mask head."""
        heads, aligns = self.roi_head.masks, [head.align for head in self.detector.masks]
        return [h(self.stored(roi_align(maps, boxes, a)), labels) for h, a in zip(heads, aligns, strict=True)]


def _best_boxes(boxes: Tensor, logits: Tensor, head: BoxHead) -> Tensor:
    """One box a RoI for the next stage: of the class with the largest raw logit, the background left out."""
    if boxes.shape[1] == 1:
        return boxes[:, 0]
    best = logits[:, : head.classes].argmax(1)
    return boxes[torch.arange(len(boxes)), best]


def _pad(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, values.new_zeros(length - len(values), *values.shape[1:])])


def _below(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}


def _conv(name: str, shapes: dict[str, tuple[int, ...]]) -> nn.Conv2d:
    outputs, inputs, size, _ = shapes[f"{name}.weight"]
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


def _classifier(name: str, predictor: Predictor, shapes: dict[str, tuple[int, ...]]) -> Classifier:
    return Classifier(predictor, _below(f"{name}.", shapes))
