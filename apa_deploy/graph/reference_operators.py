"""Operators in float64 that onnx.reference has only as Python loops, in one version, or in float32.

Where an operator changed between opsets, one class answers for all of them: the evaluator chooses by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_average_pool import AveragePool_19 as ReferenceAveragePool
from onnx.reference.ops.op_grid_sample import GridSample as ReferenceGridSample
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool
from onnx.reference.ops.op_resize import Resize as ReferenceResize
from onnx.reference.ops.op_roi_align import RoiAlign as ReferenceRoiAlign
from torch.nn import functional

from ..maths import aglu_float64, apa_float64
from ..runtimes.ort_session import open_session
from .node import read_parameters
from .precision import NUMPY_TYPE
from .reference_loops import Loop, Scan
from .stored import REFERENCE_DOMAIN

Array = np.ndarray
_CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MAX_POOLS: dict[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


def _padding(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Any, auto: Any
) -> list[int]:
    """Begins, then ends, as ONNX has them."""
    if auto in (None, "", "NOTSET"):
        return list(pads) if pads else [0] * (2 * len(kernel))
    if auto == "VALID":
        return [0] * (2 * len(kernel))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = zip(x.shape[2:], reach, strides, strict=True)
    totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, r, s in sizes]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return [*small, *large] if auto == "SAME_UPPER" else [*large, *small]


def _pad(x: Array, pads: Sequence[int], value: float) -> torch.Tensor:
    rank = len(pads) // 2
    torch_order = [p for i in reversed(range(rank)) for p in (pads[i], pads[rank + i])]
    return functional.pad(torch.from_numpy(np.ascontiguousarray(x)), torch_order, value=value)


class Conv(OpRun):
    """Convolution in one, two or three dimensions."""

    op_domain = ""

    def _run(
        self, x: Array, w: Array, b: Array | None = None, *, auto_pad: Any = None, dilations: Any = None,
        group: Any = None, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
    ) -> tuple[Array]:  # fmt: skip
        ones = [1] * (w.ndim - 2)
        strides, dilations = strides or ones, dilations or ones
        sides = _padding(x, w.shape[2:], strides, dilations, pads, auto_pad)
        weight, bias = torch.from_numpy(w.copy()), None if b is None else torch.from_numpy(b.copy())
        convolve = _CONVOLUTIONS[len(ones)]
        y = convolve(_pad(x, sides, 0.0), weight, bias, tuple(strides), 0, tuple(dilations), group or 1)
        return (y.numpy(),)


class MaxPool(ReferenceMaxPool):
    """Maximum pooling; what torch has not (ceil mode with padding, indices) is left to onnx."""

    op_domain = ""

    def _run(self, x: Array, **given: Any) -> tuple[Array, ...]:  # type: ignore[override]
        if given.get("ceil_mode") or len(self.onnx_node.output) > 1 or x.dtype != np.float64:
            return super()._run(x, **given)
        kernel = given["kernel_shape"]
        ones = [1] * len(kernel)
        strides, dilations = given.get("strides") or ones, given.get("dilations") or ones
        sides = _padding(x, kernel, strides, dilations, given.get("pads"), given.get("auto_pad"))
        pool = _MAX_POOLS[len(kernel)]
        y = pool(_pad(x, sides, -np.inf), tuple(kernel), tuple(strides), 0, tuple(dilations))
        return (y.numpy(),)


class AveragePool(ReferenceAveragePool):
    """Average pooling with equal padding on both sides; the rest is left to onnx."""

    op_domain = ""

    def _run(self, x: Array, **given: Any) -> tuple[Array, ...]:  # type: ignore[override]
        kernel = given["kernel_shape"]
        pads = given.get("pads") or [0] * (2 * len(kernel))
        begins, ends = pads[: len(kernel)], pads[len(kernel) :]
        unusual = given.get("ceil_mode") or given.get("auto_pad") not in (None, "", "NOTSET")
        unusual = unusual or any(2 * pad > size for pad, size in zip(begins, kernel, strict=True))  # torch refuses
        if unusual or begins != ends or any(d != 1 for d in given.get("dilations") or ()) or len(kernel) != 2:
            return super()._run(x, **given)
        strides = given.get("strides") or [1, 1]
        counted = bool(given.get("count_include_pad"))
        tensor = torch.from_numpy(np.ascontiguousarray(x))
        return (functional.avg_pool2d(tensor, kernel, strides, begins, False, counted).numpy(),)


class Resize(ReferenceResize):
    """Resizing is linear and separable: each axis is a matrix, whose columns are resized unit vectors."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, roi: Any = None, scales: Any = None, sizes: Any = None, **given: Any
    ) -> tuple[Array]:
        plain = given.get("coordinate_transformation_mode") != "tf_crop_and_resize" and not given.get("axes")
        if not plain or x.dtype != np.float64 or given.get("keep_aspect_ratio_policy") not in (None, "stretch"):
            return super()._run(x, roi, scales, sizes, **given)
        if roi is not None and scales is None and sizes is None:  # before opset 11: (x, scales), from the corner on
            scales, given = roi, given | _CORNER
        has_sizes = sizes is not None and len(sizes)
        targets = list(sizes) if has_sizes else [int(n * s) for n, s in zip(x.shape, scales, strict=True)]
        attributes = tuple(sorted((k, v) for k, v in given.items() if v is not None and not isinstance(v, list)))
        for axis, target in enumerate(targets):
            scale = None if has_sizes else float(scales[axis])
            if int(target) != x.shape[axis]:
                matrix = _resizing(x.shape[axis], int(target), scale, attributes)
                x = np.moveaxis(np.tensordot(matrix, x, (0, axis)), 0, axis)
        return (x,)


class Upsample(Resize):
    """Resize's predecessor; before opset 9 its scales are an attribute."""

    def _run(self, x: Array, roi: Any = None, *, scales: Any = None, **given: Any) -> tuple[Array]:  # type: ignore[override]
        return super()._run(x, None, roi if scales is None else np.asarray(scales), **(given | _CORNER))


# How Upsample and the first Resize place their samples: at x / scale.
_CORNER = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@cache
def _resizing(size: int, target: int, scale: float | None, attributes: tuple[tuple[str, Any], ...]) -> Array:
    """(size, target): row i is the resized i-th unit vector. Its weights are ONNX Runtime's."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [size, None]) for n in "xy")
    how = _tensor("how", [1.0, scale]) if scale is not None else _tensor("how", [size, target])
    inputs = ["x", "", "how"] if scale is not None else ["x", "", "", "how"]
    node = helper.make_node("Resize", inputs, ["y"], **dict(attributes))
    graph = helper.make_graph([node], "resize", [x], [y], [how])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    weights = open_session(model).run(None, {"x": np.eye(size, dtype=np.float32)})[0]
    return np.asarray(weights, dtype=np.float64)


def _tensor(name: str, values: Sequence[float]) -> onnx.TensorProto:
    """float32 where a value is a float, else int64."""
    element = TensorProto.FLOAT if isinstance(values[0], float) else TensorProto.INT64
    return helper.make_tensor(name, element, [len(values)], list(values))


class BatchNormalization(OpRun):
    """Of any opset: with stored statistics, or (training) with those of the batch."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, *, epsilon: Any = None,
        momentum: Any = None, training_mode: Any = None, **_: Any,
    ) -> tuple[Array, ...]:  # fmt: skip
        outputs: tuple[Array, ...] = ()
        if training_mode:
            axes = tuple(i for i in range(x.ndim) if i != 1)
            kept, seen_mean, seen_var = (0.9 if momentum is None else momentum), x.mean(axes), x.var(axes)
            outputs = (mean * kept + seen_mean * (1 - kept), var * kept + seen_var * (1 - kept))
            mean, var = seen_mean, seen_var
        shape = [-1, *[1] * (x.ndim - 2)]
        rate = scale / np.sqrt(var + (1e-5 if epsilon is None else epsilon))
        y = x * rate.reshape(shape) + (bias - mean * rate).reshape(shape)
        return (y.astype(x.dtype), *outputs)[: max(1, len([o for o in self.onnx_node.output if o]))]


class LayerNormalization(OpRun):
    """`stash_type` says in which type to compute: that is rounding, of which there is none here."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array | None = None, *, axis: Any = -1, epsilon: Any = 1e-5, **_: Any
    ) -> tuple[Array, ...]:
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean = x.mean(axes, keepdims=True)
        rate = 1 / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + epsilon)
        y = (x - mean) * rate * scale + (0 if bias is None else bias)
        return (y.astype(x.dtype), mean, rate)[: len(self.onnx_node.output)]


class RMSNormalization(OpRun):
    """As LayerNormalization, without the mean."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, *, axis: Any = -1, epsilon: Any = 1e-5, **_: Any) -> tuple[Array]:
        mean_square = (x**2).mean(tuple(range(axis % x.ndim, x.ndim)), keepdims=True)
        return ((x / np.sqrt(mean_square + epsilon) * scale).astype(x.dtype),)


class GroupNormalization(OpRun):
    """Scale and bias a channel, as from opset 21; `onnx_file` rewrites the older one, which had them a group."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, *, num_groups: Any = None, epsilon: Any = 1e-5, **_: Any
    ) -> tuple[Array]:
        groups = x.reshape(x.shape[0], num_groups, -1)
        mean, var = groups.mean(-1, keepdims=True), groups.var(-1, keepdims=True)
        normal, shape = ((groups - mean) / np.sqrt(var + epsilon)).reshape(x.shape), [-1, *[1] * (x.ndim - 2)]
        return ((normal * scale.reshape(shape) + bias.reshape(shape)).astype(x.dtype),)


class MeanVarianceNormalization(OpRun):
    """Its body in onnx has float32 constants."""

    op_domain = ""

    def _run(self, x: Array, *, axes: Any = None) -> tuple[Array]:
        over = tuple(axes or (0, 2, 3))
        return (((x - x.mean(over, keepdims=True)) / (x.std(over, keepdims=True) + 1e-9)).astype(x.dtype),)


class Scatter(OpRun):
    """ScatterElements under its name before opset 11."""

    op_domain = ""

    def _run(self, x: Array, indices: Array, updates: Array, *, axis: Any = 0) -> tuple[Array]:
        y = x.copy()
        places: list[Array] = list(np.indices(indices.shape))  # an axis may have fewer of them than `x`
        places[axis or 0] = indices
        y[tuple(places)] = updates
        return (y,)


class GridSample(ReferenceGridSample):
    """Sampling at given places; torch knows all but cubic volumes. Opset 16 says `bilinear` and `bicubic`."""

    op_domain = ""

    def _run(
        self, x: Array, grid: Array, mode: Any = None, padding_mode: Any = None, align_corners: Any = None
    ) -> tuple[Array]:
        mode = {None: "bilinear", "linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
        if mode == "bicubic" and x.ndim == 5:
            return super()._run(x, grid, "cubic", padding_mode, align_corners)
        image, places = (torch.from_numpy(np.ascontiguousarray(a)) for a in (x, grid))
        y = functional.grid_sample(
            image, places.to(image.dtype), mode, padding_mode or "zeros", bool(align_corners)
        )
        return (y.numpy(),)


class RoiAlign(ReferenceRoiAlign):
    """Means over square bins, half-pixel, by matrices instead of loops; other forms as onnx does them."""

    op_domain = ""

    def _run(  # type: ignore[override]  # the evaluator gives attributes by name
        self, x: Array, rois: Array, images: Array, **attributes: Any
    ) -> Any:
        from ..detection import boxes, spec

        size, mode = attributes["output_height"], attributes["coordinate_transformation_mode"] or "half_pixel"
        averaged = (attributes["mode"] or "avg") == "avg"
        if not averaged or mode != "half_pixel" or size != attributes["output_width"]:
            return super()._run(x, rois, images, **attributes)
        align = spec.RoiAlign(
            size, attributes["sampling_ratio"] or 0, strides=(1 / (attributes["spatial_scale"] or 1),)
        )
        maps, places = (torch.from_numpy(np.ascontiguousarray(a)) for a in (x, rois))
        y = maps.new_zeros(len(rois), x.shape[1], size, size)
        for image in np.unique(images):
            here = torch.from_numpy(np.flatnonzero(images == image))
            y[here] = boxes.roi_align([maps[int(image)]], places[here].to(maps.dtype), align)
        return (y.numpy(),)


class NonMaxSuppression(OpRun):
    """Boxes kept class by class: strictly above the score, suppressed strictly above the overlap."""

    op_domain = ""

    def _run(
        self, boxes: Array, scores: Array, most: Any = None, overlap: Any = None, least: Any = None,
        *, center_point_box: Any = 0,
    ) -> tuple[Array]:  # fmt: skip
        count, limit = int(_scalar(most, 0)), float(_scalar(overlap, 0.0))
        floor = _scalar(least, -np.inf)
        kept = [
            (batch, label, box)
            for batch, corners in enumerate(_corners(boxes, bool(center_point_box)))
            for label, row in enumerate(scores[batch])
            for box in _keep_boxes(corners, row, count, limit, floor)
        ]
        return (np.array(kept, dtype=np.int64).reshape(-1, 3),)


def _scalar(value: Any, default: float) -> float:
    """A threshold, which may be left out, empty, a scalar, or a list of one."""
    values = np.ravel([] if value is None else value)
    return float(values[0]) if values.size else default


def _corners(boxes: Array, centred: bool) -> Array:
    """(N, boxes, 4) as two opposite corners, the smaller coordinates first."""
    a, b = boxes[..., :2], boxes[..., 2:]
    first, second = (a - b / 2, a + b / 2) if centred else (np.minimum(a, b), np.maximum(a, b))
    return np.concatenate([first, second], -1)


def _keep_boxes(corners: Array, scores: Array, count: int, limit: float, floor: float) -> list[int]:
    """Numbers of the boxes of one class, the best first."""
    order = np.argsort(-scores, kind="stable")  # of equal scores the earlier box comes first
    order = order[scores[order] > floor]
    area = np.prod(corners[:, 2:] - corners[:, :2], axis=-1)
    kept: list[int] = []
    while len(order) and len(kept) < count:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[order, :2])
        high = np.minimum(corners[best, 2:], corners[order, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=-1)
        union = area[best] + area[order] - shared
        order = order[~(shared > limit * union) | (union <= 0)]
    return kept


class APA(OpRun):
    """A canonical gate that the file has already."""

    op_domain = "com.apa"

    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (apa_float64(x, *_parameters(self.onnx_node, x.ndim)),)


class AGLU(OpRun):
    """A canonical unit that the file has already."""

    op_domain = "com.apa"

    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (aglu_float64(x, *_parameters(self.onnx_node, x.ndim)),)


def _parameters(node: onnx.NodeProto, rank: int) -> tuple[Array, Array]:
    parameters = read_parameters(node)
    shape = [1] * rank
    shape[parameters.axis] = -1
    lambda_, kappa = (np.asarray(v) for v in (parameters.lambda_, parameters.kappa))
    return tuple(v if v.size == 1 else v.reshape(shape) for v in (lambda_, kappa))  # type: ignore[return-value]


class Stored(OpRun):
    """A value as a half type would store it: rounded, beyond its range saturated; what is no float stays."""

    op_domain = REFERENCE_DOMAIN

    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        precision = helper.get_node_attr_value(self.onnx_node, "precision").decode()
        return (round_array(x, precision),)


def round_array(x: Array, precision: str) -> Array:
    """`x` rounded to "fp16" or "bf16", saturating, in its own type; what is no float stays."""
    if x.dtype.kind != "f":
        return x
    element = NUMPY_TYPE[precision]
    limit = float(ml_dtypes.finfo(element).max)
    return np.asarray(np.clip(x, -limit, limit).astype(element).astype(x.dtype))


OPERATORS: list[type[OpRun]] = [
    Conv, MaxPool, AveragePool, Resize, Upsample, BatchNormalization, LayerNormalization, RMSNormalization,
    GroupNormalization, MeanVarianceNormalization, Scatter, GridSample, RoiAlign,
    NonMaxSuppression, APA, AGLU, Stored, Loop, Scan,
]  # fmt: skip
