"""The reference's own boxes in torch: decoding, overlap, NMS and RoIAlign, in whatever float type comes in.

Nothing of `graph` is used here, nor torchvision: this is what the graph is judged by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .spec import Coder, RoiAlign

# mmdet's clamp of dw and dh: no box grows by more than 1000/16 at once.
LARGEST_LOG_RATIO = abs(math.log(16 / 1000))


def decode(anchors: Tensor, deltas: Tensor, coder: Coder, valid: Tensor) -> Tensor:
    """Boxes (..., 4) of deltas on `anchors` (..., 4), clipped to `valid`, the width and height in pixels."""
    d = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    centre, size = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]
    centre = centre + size * d[..., :2]
    size = size * d[..., 2:].clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
    return corners.clamp(min=0).minimum(torch.cat([valid, valid]))


def overlaps(one: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m); two without area give NaN."""
    low = torch.maximum(one[:, None, :2], others[None, :, :2])
    high = torch.minimum(one[:, None, 2:], others[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (one, others)]
    return both / (areas[0][:, None] + areas[1][None] - both)


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes that greedy suppression keeps, by falling score; IoU > threshold (strict) suppresses."""
    order = scores.sort(descending=True, stable=True)[1]
    suppresses = (overlaps(boxes[order], boxes[order]) > threshold).triu(1).numpy()
    living = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if living[i]:
            living &= ~suppresses[i]
    return order[torch.from_numpy(living)]


@dataclass(frozen=True)
class Kept:
    """What a class-wise NMS keeps: indices of RoIs and classes, by falling score."""

    rois: Tensor
    labels: Tensor


def nms_by_class(boxes: Tensor, scores: Tensor, threshold: float, least_score: float, most: int) -> Kept:
    """Greedy NMS in each class, the best `most` over all classes.

    A box is suppressed only by better ones of its class, so pairs are looked at from the best score down and the
    first `most` that stay are the answer: exact, and quick with thousands of classes.

    Args:
        boxes: (R, C, 4), or (R, 1, 4) for all classes alike.
        scores: (R, C).
    """
    flat = scores.flatten()
    candidates = (flat > least_score).nonzero()[:, 0]
    order = candidates[flat[candidates].sort(descending=True, stable=True)[1]]
    classes = scores.shape[1]
    kept: list[int] = []
    by_label: dict[int, list[Tensor]] = {}
    for pair in order.tolist():
        roi, label = divmod(pair, classes)
        box = boxes[roi, label if boxes.shape[1] > 1 else 0]
        rivals = by_label.setdefault(label, [])
        if rivals and bool((overlaps(box[None], torch.stack(rivals)) > threshold).any()):
            continue
        rivals.append(box)
        kept.append(pair)
        if len(kept) == most:
            break
    pairs = torch.tensor(kept, dtype=torch.long)
    return Kept(pairs // classes, pairs % classes)


def levels_of(boxes: Tensor, align: RoiAlign) -> Tensor:
    """Index of the pyramid's level for each box (n, 4)."""
    side = (boxes[:, 2:] - boxes[:, :2]).prod(-1).sqrt()
    return (side / align.finest + 1e-6).log2().floor().clamp(0, len(align.strides) - 1).long()


def roi_align(pyramid: list[Tensor], boxes: Tensor, align: RoiAlign) -> Tensor:
    """Features (n, C, size, size) of boxes (n, 4) of one image, each from its level of `pyramid` (C, H, W).

    Bilinear sampling with a mean over a grid is separable: rows x map x columns, on the map's part below the box.
    """
    found = boxes.new_zeros(len(boxes), pyramid[0].shape[0], align.size, align.size)
    levels = levels_of(boxes, align)
    for level, stride in enumerate(align.strides):
        here = (levels == level).nonzero()[:, 0]
        if not len(here):
            continue
        features, scaled = pyramid[level], boxes[here] / stride - 0.5
        rows = _weights(scaled[:, 1], scaled[:, 3], features.shape[1], align)
        columns = _weights(scaled[:, 0], scaled[:, 2], features.shape[2], align)
        for i, row, column in zip(here.tolist(), rows, columns, strict=True):
            y, x = _span(row), _span(column)
            found[i] = row[:, y] @ features[:, y, x] @ column[:, x].T
    return found


def _weights(low: Tensor, high: Tensor, length: int, align: RoiAlign) -> Tensor:
    """(n, size, length): how much each pixel of an axis counts in each bin between `low` and `high`."""
    bins, size = align.size, high - low
    samples = torch.full_like(size, align.samples) if align.samples else (size / bins).ceil()
    most = max(1, int(samples.max()))
    at = torch.arange(most, dtype=size.dtype)
    counted = at < samples[:, None]
    step = size / bins
    inside = (at + 0.5)[None] * step[:, None] / samples.clamp(min=1)[:, None]
    y = low[:, None, None] + torch.arange(bins, dtype=size.dtype)[None, :, None] * step[:, None, None]
    y = y + inside[:, None, :]
    share = (counted[:, None, :] & (y >= -1) & (y <= length)).to(size.dtype) / samples.clamp(min=1)[:, None, None]
    y = y.clamp(min=0)
    lower = y.floor().clamp(max=length - 1)
    fraction = torch.where(lower >= length - 1, torch.zeros_like(y), y - lower)
    upper = (lower + 1).clamp(max=length - 1)
    weights = size.new_zeros(len(size), bins, length)
    weights.scatter_add_(2, lower.long(), share * (1 - fraction))
    return weights.scatter_add_(2, upper.long(), share * fraction)


def _span(weights: Tensor) -> slice:
    used = weights.ne(0).any(0).nonzero()[:, 0]
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
