"""RoI heads in a graph: RoiAlign over the pyramid, box heads of one or several stages, mask heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto

from .graph_boxes import decode_boxes
from .nodes import Nodes
from .spec import BoxHead, DetectorSpec, MaskHead, Predictor, RoiAlign

Weights = Mapping[str, np.ndarray]
# A RoI that no level's map reaches: its one sample a bin is 0 by RoiAlign's definition. Without area there would be
# none, and OpenVINO and CUDA divide by their number.
_OUTSIDE = (-2e4, -2e4, -2e4 + 1, -2e4 + 1)


class Heads:
    """Writes the heads of one detector over its `pyramid`, P2..P5; `batch`: 0 for an open one."""

    def __init__(
        self,
        nodes: Nodes,
        spec: DetectorSpec,
        weights: Weights,
        pyramid: Sequence[str],
        clip_to: str,
        batch: int = 0,
    ) -> None:
        self.n, self.spec, self.weights, self.pyramid, self.batch = nodes, spec, weights, pyramid, batch
        with nodes.in_float32():
            self._clip_to = nodes.unsqueeze(clip_to, 2)  # (N, 1, 1, 4)

    # Boxes

    def boxes(self, rois: str, raw: bool) -> tuple[str, str]:
        """Class logits (N, R, C) and boxes (N, R, 1 or C, 4) of RoIs (N, R, 4); "" for `raw` ones."""
        n, count, every = self.n, self.spec.rpn.proposals, []
        boxes = ""
        for k, head in enumerate(self.spec.boxes):
            last = k + 1 == len(self.spec.boxes)
            features = self._align(rois, count, self.spec.align)
            x = n.reshape(features, -1, self.weights[f"{head.prefix}shared_fcs.0.weight"].shape[1])
            for i in range(head.layers):
                x = n.add("Relu", self._linear(x, f"{head.prefix}shared_fcs.{i}"))
            logits = self._classify(x, head)
            alone = last and len(self.spec.boxes) == 1
            logits = n.reshape(
                logits, -1, count, self._rows(head), name="cls_score" if alone else f"cls_score_stage{k}"
            )
            deltas = self._linear(x, f"{head.prefix}fc_reg")
            columns = len(self.weights[f"{head.prefix}fc_reg.bias"])
            deltas = n.reshape(deltas, -1, count, columns, name="bbox_pred" if last else f"bbox_pred_stage{k}")
            every.append(logits)
            if last and raw:
                break
            with n.in_float32():
                per_class = n.reshape(deltas, 0, count, -1, 4)
                boxes = decode_boxes(n, n.unsqueeze(rois, 2), per_class, head.coder, self._clip_to)
                rois = rois if last else self._next(boxes, logits, head, f"rois{k + 1}")
        if len(every) == 1:
            return every[0], boxes
        with n.in_float32():
            total = n.add("Sum", *every)
            return n.add("Mul", total, n.floats(1 / len(every)), name="cls_score"), boxes

    def _rows(self, head: BoxHead) -> int:
        return len(self.weights[f"{head.prefix}fc_cls.bias"])

    def _next(self, boxes: str, logits: str, head: BoxHead, name: str) -> str:
        """The RoIs of a cascade's next stage: of the best foreground class where each class has its box."""
        n = self.n
        if head.agnostic:
            return n.add("Squeeze", boxes, n.integers([2]), name=name)
        foreground = n.add("Slice", logits, n.integers([0]), n.integers([head.classes]), n.integers([2]))
        best = n.add("ArgMax", foreground, axis=2, keepdims=1)
        return n.add("GatherND", boxes, best, batch_dims=2, name=name)

    def _linear(self, x: str, key: str) -> str:
        weight, bias = self.weights[f"{key}.weight"], self.weights[f"{key}.bias"]
        stored = (self.n.stored(f"{key}.weight", weight), self.n.stored(f"{key}.bias", bias))
        return self.n.add("Gemm", x, *stored, transB=1)

    def _classify(self, x: str, head: BoxHead) -> str:
        """The class predictor; what depends on weights alone is folded in float64."""
        n, p, key = self.n, head.predictor, f"{head.prefix}fc_cls"
        if p.kind == "linear":
            return self._linear(x, key)
        weight, bias = self._normalise_weights(key, p), self.weights[f"{key}.bias"].astype(np.float64)
        with n.in_float32():
            x = self._unit(x, p)
        if p.kind == "normed":
            return n.add("Gemm", x, n.floats(weight), n.floats(bias), transB=1)
        # s/(2*3.14) * (1 - gamma^2) / (1 + gamma^2 - 2 gamma cosine): the denominator is one Gemm
        gamma = 1 / (1 + np.exp(-self.weights[f"{key}.g"].astype(np.float64)))
        scale = float(self.weights.get(f"{key}.s_", np.float64(p.scale)))
        with n.in_float32():
            below = n.floats(-2 * gamma[:, None] * weight), n.floats(1 + gamma**2 - 2 * gamma * bias)
            return n.add("Div", n.floats(scale / 2 / 3.14 * (1 - gamma**2)), n.add("Gemm", x, *below, transB=1))

    def _normalise_weights(self, key: str, p: Predictor) -> np.ndarray:
        """Weights (C, D) over their norms, times the temperature."""
        weight = self.weights[f"{key}.weight"].astype(np.float64)
        weight = weight.reshape(len(weight), -1)
        power = p.power if p.kind == "normed" else 1.0
        weight = weight / (np.linalg.norm(weight, axis=1, keepdims=True) ** power + p.eps)
        if p.kind != "normed":
            return weight
        return weight * (float(self.weights[f"{key}.tempearture"]) ** 2 if p.learned else p.temperature)

    def _unit(self, x: str, p: Predictor) -> str:
        """x over its norm along axis 1."""
        n = self.n
        norm = n.add("ReduceL2", x, n.integers([1]), keepdims=1)
        if p.kind == "normed" and p.power != 1:
            norm = n.add("Pow", norm, n.floats(p.power))
        return n.add("Div", x, n.add("Add", norm, n.floats(p.eps)))

    # RoIs

    def _align(self, boxes: str, count: int, align: RoiAlign) -> str:
        """Features (N*count, C, size, size) of boxes (N, count, 4), each from its own level."""
        n = self.n
        with n.in_float32():
            flat = n.reshape(boxes, -1, 4)
            low, high = n.halves(flat)
            area = n.add("ReduceProd", n.add("Sub", high, low), n.integers([1]), keepdims=1)
            side = n.add("Add", n.add("Div", n.add("Sqrt", area), n.floats(align.finest)), n.floats(1e-6))
            # floor(log2(side)) clamped: how many of 2, 4, 8 are reached; boxes without area are of no level
            levels = len(align.strides)
            least = np.nextafter(np.float32(1e-6), np.float32(1))
            reached = n.add("GreaterOrEqual", side, n.floats([least, *2.0 ** np.arange(1, levels)]))
            level = n.add("ReduceSum", n.add("Cast", reached, to=TensorProto.INT64), n.integers([1]), keepdims=1)
            here = n.add("Equal", level, n.integers(np.arange(1, levels + 1)[:, None, None]))  # (levels, n, 1)
            mine = n.add("Where", here, flat, n.floats(_OUTSIDE))
            parts = n.several("Split", levels, mine, axis=0, num_outputs=levels)
            image = self._images(boxes, count)
        found = []
        for features, part, stride in zip(self.pyramid, parts, align.strides, strict=True):
            with n.in_float32():
                part = n.add("Squeeze", part, n.integers([0]))
            found.append(
                n.add(
                    "RoiAlign", features, part, image, output_height=align.size, output_width=align.size,
                    sampling_ratio=align.samples, spatial_scale=1 / stride, mode="avg",
                    coordinate_transformation_mode="half_pixel",
                )
            )  # fmt: skip
        return n.add("Sum", *found)

    def _images(self, boxes: str, count: int) -> str:
        """Which image each of (N, count) boxes is of, in one row."""
        n = self.n
        if self.batch:
            return n.integers(np.repeat(np.arange(self.batch), count))
        batch = n.add("Squeeze", n.add("Shape", boxes, start=0, end=1))
        numbers = n.unsqueeze(n.add("Range", n.integers(0), batch, n.integers(1)), 1)
        return n.reshape(n.add("Expand", numbers, n.integers([1, count])), -1)

    # Masks

    def masks(self, boxes: str, labels: str, found: str) -> None:
        """Probabilities (N, K, 28, 28) of the labels' classes, the mean over a cascade's heads; named `masks`."""
        n, count = self.n, self.spec.max_detections
        with n.in_float32():
            label = n.reshape(labels, -1)
        heads = []
        for k, head in enumerate(self.spec.masks):
            logits = self._mask_logits(head, self._align(boxes, count, head.align), label, f"mask_logits{k}")
            with n.in_float32():
                heads.append(n.add("Sigmoid", logits))
        with n.in_float32():
            mean = heads[0] if len(heads) == 1 else n.add("Mul", n.add("Sum", *heads), n.floats(1 / len(heads)))
            side = 2 * self.spec.masks[0].align.size
            n.add("Mul", n.reshape(mean, -1, count, side, side), n.unsqueeze(found, 2, 3), name="masks")

    def _mask_logits(self, head: MaskHead, x: str, label: str, name: str) -> str:
        n, key = self.n, f"{head.prefix}conv_logits"
        for i in range(head.layers):
            x = n.add("Relu", self._conv(x, f"{head.prefix}convs.{i}.conv"))
        if head.upsample == "carafe":
            x = self._carafe(x, head)
        else:
            parts = (n.floats(self.weights[f"{head.prefix}upsample.{part}"]) for part in ("weight", "bias"))
            x = n.add("Relu", n.add("ConvTranspose", x, *parts, strides=[2, 2]))
        channels = self.weights[f"{key}.weight"].shape[1]
        x = n.reshape(x, 0, channels, (2 * head.align.size) ** 2)
        weight, bias = self.weights[f"{key}.weight"].reshape(-1, channels), self.weights[f"{key}.bias"]
        if head.predictor.kind == "normed":
            weight = self._normalise_weights(key, head.predictor)
            with n.in_float32():
                x = self._unit(x, head.predictor)
        # of thousands of maps each box needs one: its label's row of weights
        row = n.add("Mul", label, n.integers(0)) if head.agnostic else label
        with n.in_float32():
            rows = n.unsqueeze(n.add("Gather", n.floats(weight), row), 1)
            offset = n.unsqueeze(n.add("Gather", n.floats(bias), row), 1, 2)
        return n.add("Add", n.add("MatMul", rows, x), offset, name=name)

    def _conv(self, x: str, key: str) -> str:
        weight, bias = self.weights[f"{key}.weight"], self.weights[f"{key}.bias"]
        stored = (self.n.stored(f"{key}.weight", weight), self.n.stored(f"{key}.bias", bias))
        return self.n.add("Conv", x, *stored, pads=[weight.shape[-1] // 2] * 4)

    def _carafe(self, x: str, head: MaskHead) -> str:
        """Each pixel of the finer map is a weighted mean of a window of the coarser one.

        The window's weights are scattered into a matrix from coarse to fine pixels, and one MatMul does the rest.
        """
        n, size, kernel = self.n, head.align.size, head.carafe_kernel
        key = f"{head.prefix}upsample"
        content = self._conv(self._conv(x, f"{key}.channel_compressor"), f"{key}.content_encoder")
        with n.in_float32():
            mixture = n.add("Softmax", n.add("DepthToSpace", content, blocksize=2, mode="CRD"), axis=1)
            mixture = n.reshape(mixture, 0, kernel * kernel, 4 * size * size)
            index = n.integers(_window_pixels(size, kernel)[None])
            count = n.add("Shape", mixture, start=0, end=1)
            pixels = n.integers([size * size + 1])  # the last stands for everything outside the map
            none = n.add("ConstantOfShape", n.add("Concat", count, pixels, n.integers([4 * size * size]), axis=0))
            index = n.add("Expand", index, n.add("Shape", mixture))
            matrix = n.add("ScatterElements", none, index, mixture, axis=1, reduction="add")
        channels = self.weights[f"{key}.channel_compressor.weight"].shape[1]
        flat = n.reshape(x, 0, channels, size * size)
        return n.add("MatMul", n.add("Pad", flat, n.integers([0, 0, 0, 0, 0, 1])), matrix)


def _window_pixels(size: int, kernel: int) -> np.ndarray:
    """(kernel^2, 4 size^2): which coarse pixel each place of a fine pixel's window is; size^2 outside the map."""
    fine = np.arange(2 * size) // 2
    offset = np.arange(kernel) - kernel // 2
    y, x = (
        offset[:, None, None, None] + fine[None, None, :, None],
        offset[None, :, None, None] + fine[None, None, None],
    )
    y, x = np.broadcast_arrays(y, x)
    inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
    return np.where(inside, y * size + x, size * size).reshape(kernel * kernel, -1)
