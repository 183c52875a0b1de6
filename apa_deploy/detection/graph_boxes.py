"""Boxes in a graph: decoding and NMS."""

from __future__ import annotations

import math

import numpy as np

from .nodes import Nodes
from .spec import Coder

_LARGEST_LOG_RATIO = -math.log(16 / 1000)


def base_anchors(ratios: tuple[float, ...], scales: tuple[float, ...], stride: int) -> np.ndarray:
    """Anchors (A, 4) around the origin, ratio by ratio, in float32 step by step as mmdet computes them."""
    heights = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    sizes = np.float32(stride), np.asarray(scales, np.float32)[None]
    half_h = np.float32(0.5) * (sizes[0] * heights * sizes[1]).ravel()
    half_w = np.float32(0.5) * (sizes[0] * (np.float32(1) / heights) * sizes[1]).ravel()
    return np.stack([-half_w, -half_h, half_w, half_h], axis=1)


def decode_boxes(n: Nodes, boxes: str, deltas: str, coder: Coder, clip_to: str) -> str:
    """DeltaXYWH of `deltas` (..., 4) on `boxes`, clipped to 0 and to `clip_to`."""
    if coder.stds != (1.0,) * 4:
        deltas = n.add("Mul", deltas, n.floats(coder.stds))
    if coder.means != (0.0,) * 4:
        deltas = n.add("Add", deltas, n.floats(coder.means))
    low, high = n.halves(boxes)
    move, grow = n.halves(deltas)
    size = n.add("Sub", high, low)
    centre = n.add("Mul", n.add("Add", low, high), n.floats(0.5))
    centre = n.add("Add", centre, n.add("Mul", size, move))
    limits = n.floats(-_LARGEST_LOG_RATIO), n.floats(_LARGEST_LOG_RATIO)
    half = n.add("Mul", n.add("Mul", size, n.add("Exp", n.add("Clip", grow, *limits))), n.floats(0.5))
    corners = n.add("Concat", n.add("Sub", centre, half), n.add("Add", centre, half), axis=-1)
    return n.add("Min", n.add("Max", corners, n.floats(0)), clip_to)


def suppress_boxes(
    n: Nodes, boxes: str, scores: str, most: int, iou: float, least: float, steps: tuple[int, int, int]
) -> str:
    """Scores as one row, with zeros where NMS drops a box: boxes (B, M, 4), scores (B, C, M).

    `steps`: how far apart in that row two batches, two classes and two boxes lie.
    """
    limits = n.integers([most]), n.floats([iou]), n.floats([least])
    chosen = n.add("NonMaxSuppression", boxes, scores, *limits)
    index = n.add("ReduceSum", n.add("Mul", chosen, n.integers(steps)), n.integers([1]), keepdims=0)
    row = n.reshape(scores, -1)
    none = n.add("ConstantOfShape", n.add("Shape", row))
    return n.add("ScatterElements", none, index, n.add("Gather", row, index))
