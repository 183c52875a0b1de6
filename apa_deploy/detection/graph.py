"""A detector as a graph of standard operators (opset 18), appended to its backbone's.

    C2..C5 -> FPN -> RPN -> TopK a level -> decode -> NonMaxSuppression -> TopK = proposals
           -> RoiAlign a level, summed -> box head(s) -> scores -> preselection -> NonMaxSuppression -> TopK
           -> RoiAlign -> mask head -> the label's map

Batch, height and width may be open: every choice has a fixed number of places (zero scores behind the last), levels
are padded to `before_nms` places, and an NMS takes (image, level) or (image, class) as its batch or class. Anchors
are computed from the chosen indices alone. A level's RoiAlign takes RoIs of other levels as boxes outside its map,
which give zeros.

Nothing here comes from `module` or `boxes`: the two sides of the gate share the spec and the weights alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..graph.islands import FLOAT32_PREFIX
from .graph_boxes import base_anchors, decode_boxes, suppress_boxes
from .graph_heads import Heads
from .nodes import PREFIX, Nodes
from .spec import IMAGES, RAW_OUTPUTS, VALID, DetectorSpec

Weights = Mapping[str, np.ndarray]
# Pairs of RoI and class that reach the last NMS. TensorRT's NMS layer looks at 5000 boxes of an image at most, and
# its TopK, which chooses them, gives 3840 at most.
PAIRS, TENSORRT_PAIRS = 10_000, 3_840
# The neck's maps P2 to P5: P6 is every second place of the last.
FEATURES = tuple(f"fpn{i}" for i in range(4))
# Sigmoid of this is 0 in float32: places that pad a level.
_PADDING_LOGIT = -200.0


@dataclass(frozen=True)
class DetectorGraphOptions:
    """`raw`: stop before scores and decoding. `pairs`: preselection before the last NMS.

    `pixels`: take bytes of pictures alone, in this layout and order of channels, e.g. ("nhwc", "bgr").
    """

    raw: bool = False
    pairs: int = PAIRS
    pixels: tuple[str, str] | None = None


def append_detector(
    model: onnx.ModelProto, spec: DetectorSpec, weights: Weights, options: DetectorGraphOptions
) -> onnx.ModelProto:
    """`model` itself, a backbone with four outputs, with the rest of the detector behind it.

    Args:
        weights: float arrays by mmdet's keys, without the backbone's.
    """
    graph = model.graph
    stages = [value.name for value in graph.output]
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    graph.input[0].name, old = IMAGES, graph.input[0].name
    for node in graph.node:
        node.input[:] = [IMAGES if name == old else name for name in node.input]
    if options.pixels:
        _take_pixels(graph, spec, *options.pixels)
    else:
        valid = graph.input.add()
        valid.CopyFrom(helper.make_tensor_value_info(VALID, TensorProto.FLOAT, ["batch", 2]))
        valid.type.tensor_type.shape.dim[0].CopyFrom(batch)
    _Writer(Nodes(graph), spec, weights, options).write(stages)
    del graph.output[:]
    for name, kind, shape in _outputs(spec, weights, options.raw):
        value = graph.output.add()
        value.CopyFrom(helper.make_tensor_value_info(name, kind, ["batch", *shape]))
        value.type.tensor_type.shape.dim[0].CopyFrom(batch)
    return model


def _take_pixels(graph: onnx.GraphProto, spec: DetectorSpec, layout: str, channels: str) -> None:
    """Bytes of any size -> normalised and padded images, and the size without the padding, before all else."""
    rest = list(graph.node)
    del graph.node[:]
    n = Nodes(graph)
    with n.in_float32():
        x = n.add("Cast", IMAGES, to=TensorProto.FLOAT)
        x = n.add("Transpose", x, perm=[0, 3, 1, 2]) if layout == "nhwc" else x
        if (channels == "bgr") == spec.bgr:
            x = n.add("Gather", x, n.integers([2, 1, 0]), axis=1)
        mean, std = (n.floats(np.reshape(v, (1, 3, 1, 1))) for v in (spec.mean, spec.std))
        x = n.add("Div", n.add("Sub", x, mean), std)
        size = n.add("Shape", x, start=2, end=4)
        over = n.add("Mod", size, n.integers(spec.divisor))
        missing = n.add("Mod", n.add("Sub", n.integers(spec.divisor), over), n.integers(spec.divisor))
        ends = n.add("Concat", n.integers([0] * 6), missing, axis=0)
        n.add("Pad", x, ends, name=PREFIX + "normalised")
        wide_high = n.add("Cast", n.add("Gather", size, n.integers([1, 0])), to=TensorProto.FLOAT)
        count = n.add("Concat", n.add("Shape", IMAGES, start=0, end=1), n.integers([2]), axis=0)
        n.add("Expand", wide_high, count, name=VALID)
    for node in rest:
        node.input[:] = [PREFIX + "normalised" if name == IMAGES else name for name in node.input]
    graph.node.extend(rest)
    tensor = graph.input[0].type.tensor_type
    tensor.elem_type = TensorProto.UINT8
    if layout == "nhwc":
        sizes = [copy.deepcopy(tensor.shape.dim[i]) for i in (0, 2, 3, 1)]
        del tensor.shape.dim[:]
        tensor.shape.dim.extend(sizes)


def _outputs(spec: DetectorSpec, weights: Weights, raw: bool) -> list[tuple[str, int, list[int]]]:
    most, proposals = spec.max_detections, spec.rpn.proposals
    if raw:
        head = spec.boxes[-1].prefix
        sizes = (5, len(weights[f"{head}fc_cls.bias"]), len(weights[f"{head}fc_reg.bias"]))
        return [(n, TensorProto.FLOAT, [proposals, s]) for n, s in zip(RAW_OUTPUTS, sizes, strict=True)]
    kinds = {"labels": TensorProto.INT64, "num": TensorProto.INT64}
    shapes: dict[str, list[int]] = {"boxes": [most, 4], "masks": [most, 28, 28], "num": []}
    return [(n, kinds.get(n, TensorProto.FLOAT), shapes.get(n, [most])) for n in spec.output_names]


class _Writer:
    def __init__(self, nodes: Nodes, spec: DetectorSpec, weights: Weights, options: DetectorGraphOptions) -> None:
        self.n, self.spec, self.weights, self.options = nodes, spec, weights, options
        self.batch = nodes.graph.input[0].type.tensor_type.shape.dim[0].dim_value

    def write(self, stages: Sequence[str]) -> None:
        pyramid = self._fpn(stages)
        with self.n.in_float32():
            # (N, 1, 4): the largest x1 y1 x2 y2
            self.clip_to = self.n.unsqueeze(self.n.add("Concat", VALID, VALID, axis=1), 1)
        logits, deltas = self._rpn(pyramid)
        heads = Heads(self.n, self.spec, self.weights, pyramid[:4], self.clip_to, self.batch)
        with self.n.in_float32():
            rois, objectness = self._proposals(pyramid, logits, deltas)
            self.n.add("Concat", rois, self.n.unsqueeze(objectness, 2), axis=2, name="proposals")
        logits_of_classes, boxes = heads.boxes(rois, raw=self.options.raw)
        if not self.options.raw:
            with self.n.in_float32():
                found = self._final(rois, objectness, logits_of_classes, boxes)
            if self.spec.masks:
                heads.masks(*found)

    def _conv(self, x: str, key: str, name: str = "") -> str:
        weight, bias = self.weights[f"{key}.weight"], self.weights[f"{key}.bias"]
        pads = [weight.shape[-1] // 2] * 4
        stored = (self.n.stored(f"{key}.weight", weight), self.n.stored(f"{key}.bias", bias))
        return self.n.add("Conv", x, *stored, pads=pads, name=name)

    def _fpn(self, stages: Sequence[str]) -> list[str]:
        laterals = [self._conv(x, f"neck.lateral_convs.{i}.conv") for i, x in enumerate(stages)]
        for i in range(len(laterals) - 1, 0, -1):
            size = self.n.add("Shape", laterals[i - 1])
            nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            above = self.n.add("Resize", laterals[i], "", "", size, **nearest)
            laterals[i - 1] = self.n.add("Add", laterals[i - 1], above)
        pyramid = [
            self._conv(x, f"neck.fpn_convs.{i}.conv", name)
            for i, (x, name) in enumerate(zip(laterals, FEATURES, strict=True))
        ]
        last = self.n.add("MaxPool", pyramid[-1], kernel_shape=[1, 1], strides=[2, 2], name="fpn4")
        return [*pyramid, last]

    def _rpn(self, pyramid: Sequence[str]) -> tuple[list[str], list[str]]:
        """Logits and deltas of each level, as maps."""
        logits, deltas = [], []
        for i, x in enumerate(pyramid):
            hidden = self.n.add("Relu", self._conv(x, "rpn_head.rpn_conv"))
            logits.append(self._conv(hidden, "rpn_head.rpn_cls", f"rpn_cls{i}"))
            deltas.append(self._conv(hidden, "rpn_head.rpn_reg", f"rpn_reg{i}"))
        return logits, deltas

    def _proposals(self, pyramid: Sequence[str], logits: list[str], deltas: list[str]) -> tuple[str, str]:
        """RoIs (N, R, 4) and their scores (N, R), by falling score; zeros behind the last."""
        n, rpn, levels = self.n, self.spec.rpn, len(logits)
        found = [self._best_of_level(one, delta) for one, delta in zip(logits, deltas, strict=True)]
        best, order, chosen = (n.add("Concat", *parts, axis=1) for parts in zip(*found, strict=True))
        anchors = self._anchors(order, pyramid)
        boxes = decode_boxes(
            n, anchors, n.reshape(chosen, 0, levels, rpn.before_nms, 4), rpn.coder, n.unsqueeze(self.clip_to, 1)
        )
        low, high = n.halves(boxes)
        side = n.add("ReduceMin", n.add("Sub", high, low), n.integers([3]), keepdims=0)
        large = n.add("Greater", side, n.floats(rpn.smallest))
        scores = n.add("Where", large, n.add("Sigmoid", best), n.floats(0), name="rpn_scores")
        kept = suppress_boxes(
            n, n.reshape(boxes, -1, rpn.before_nms, 4), n.reshape(scores, -1, 1, rpn.before_nms),
            rpn.before_nms, rpn.nms_iou, 0.0, (rpn.before_nms, 0, 1),
        )  # fmt: skip
        places = levels * rpn.before_nms
        count = n.integers([min(rpn.proposals, places)])
        scores, index = n.several("TopK", 2, n.reshape(kept, -1, places), count, axis=1)
        rois = n.add(
            "GatherND", n.reshape(boxes, 0, places, 4, name="rpn_boxes"), n.unsqueeze(index, 2), batch_dims=1
        )
        valid = n.add("Cast", n.add("Greater", scores, n.floats(0)), to=TensorProto.FLOAT)
        return n.add("Mul", rois, n.unsqueeze(valid, 2), name="rois0"), scores

    def _best_of_level(self, logits: str, deltas: str) -> tuple[str, str, str]:
        """Of one level: the best logits (N, 1, k), their indices, and their deltas (N, k, 4)."""
        n, k = self.n, self.spec.rpn.before_nms
        flat = n.reshape(n.add("Transpose", logits, perm=[0, 2, 3, 1]), 0, -1)
        padded = n.add("Pad", flat, n.integers([0, 0, 0, k]), n.floats(_PADDING_LOGIT))
        best, order = n.several("TopK", 2, padded, n.integers([k]), axis=1)
        rows = n.reshape(n.add("Transpose", deltas, perm=[0, 2, 3, 1]), 0, -1, 4)
        rows = n.add("Pad", rows, n.integers([0, 0, 0, 0, k, 0]))
        chosen = n.add("GatherND", rows, n.unsqueeze(order, 2), batch_dims=1)
        return n.unsqueeze(best, 1), n.unsqueeze(order, 1), chosen

    def _anchors(self, order: str, pyramid: Sequence[str]) -> str:
        """Anchors (N, levels, k, 4) of indices (N, levels, k) that run over y, x, and anchor."""
        n, rpn = self.n, self.spec.rpn
        table = np.concatenate([base_anchors(rpn.ratios, rpn.scales, stride) for stride in rpn.strides])
        count = len(table) // len(rpn.strides)
        which = n.add("Mod", order, n.integers(count))
        first = n.integers(np.arange(len(rpn.strides))[:, None] * count)
        base = n.add("Gather", n.floats(table), n.add("Add", which, first))
        cell = n.add("Div", order, n.integers(count))
        widths = n.add("Concat", *(n.add("Shape", x, start=3, end=4) for x in pyramid), axis=0)
        widths = n.unsqueeze(widths, 1)
        x, y = n.add("Mod", cell, widths), n.add("Div", cell, widths)
        place = n.add("Concat", *(n.unsqueeze(v, 3) for v in (x, y, x, y)), axis=3)
        strides = n.integers(np.array(rpn.strides)[:, None, None])
        shift = n.add("Cast", n.add("Mul", place, strides), to=TensorProto.FLOAT)
        return n.add("Add", base, shift)

    def _final(self, rois: str, objectness: str, logits: str, boxes: str) -> tuple[str, str, str]:
        """Boxes, labels and scores of the last NMS; `boxes`: (N, R, 1 or C, 4)."""
        n, spec = self.n, self.spec
        classes, count, most = spec.classes, spec.rpn.proposals, spec.max_detections
        scores = self._scores(logits)
        valid = n.add("Cast", n.add("Greater", objectness, n.floats(0)), to=TensorProto.FLOAT)
        scores = n.add("Mul", scores, n.unsqueeze(valid, 2))
        pairs = n.reshape(n.add("Transpose", scores, perm=[0, 2, 1]), 0, -1)  # class-major
        if self.options.pairs < classes * count:
            values, index = n.several("TopK", 2, pairs, n.integers([self.options.pairs]), axis=1)
            none = n.add("ConstantOfShape", n.add("Shape", pairs))
            pairs = n.add("ScatterElements", none, index, values, axis=1)
        agnostic = spec.boxes[-1].agnostic
        by_class = n.reshape(n.add("Transpose", boxes, perm=[0, 2, 1, 3]), 0, -1, 4)  # (N, C*R or R, 4)
        if agnostic:
            nms_scores, steps, nms_boxes = (
                n.reshape(pairs, 0, classes, count),
                (classes * count, count, 1),
                by_class,
            )
        else:
            nms_scores, steps = n.reshape(pairs, -1, 1, count), (count, 0, 1)
            nms_boxes = n.reshape(by_class, -1, count, 4)
        kept = suppress_boxes(n, nms_boxes, nms_scores, most, spec.nms_iou, spec.score_thr, steps)
        row = n.reshape(kept, -1, classes * count)
        top = n.several("TopK", 2, row, n.integers([most]), axis=1, names=("scores", FLOAT32_PREFIX + "chosen"))
        is_found = n.add("Greater", top[0], n.floats(0))
        label = n.add("Div", top[1], n.integers(count))
        row = n.add("Mod", top[1], n.integers(count)) if agnostic else top[1]
        chosen = n.add("GatherND", by_class, n.unsqueeze(row, 2), batch_dims=1)
        found = n.add("Cast", is_found, to=TensorProto.FLOAT)
        number = n.add("Cast", is_found, to=TensorProto.INT64)
        out = n.add("Mul", chosen, n.unsqueeze(found, 2), name="boxes")
        labels = n.add("Mul", label, number, name="labels")
        n.add("ReduceSum", number, n.integers([1]), keepdims=0, name="num")
        return out, labels, found

    def _scores(self, logits: str) -> str:
        n, head = self.n, self.spec.boxes[0]
        if head.score == "gumbel":
            growth = n.add("Exp", n.add("Neg", logits))
            return n.add("Exp", n.add("Neg", growth))
        if head.score == "sigmoid":
            return n.add("Sigmoid", logits)
        every = n.add("Softmax", logits, axis=2)
        return n.add("Slice", every, n.integers([0]), n.integers([head.classes]), n.integers([2]))
