"""Detectors in the forms that other exporters write: narrow graphs with a learned activation spelled out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES, PLACES = 64, 3, 20
_CELLS = (SIDE // 8) ** 2


class Writer:
    def __init__(self, opset):
        self.nodes, self.weights, self.opset = [], [], opset
        self.draw = np.random.default_rng(5)

    def add(self, operator, *inputs, outputs=1, **attributes):
        name = f"{operator}_{len(self.nodes)}"
        names = [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name, **attributes))
        return names[0] if outputs == 1 else names

    def with_axes(self, operator, x, axes):
        """Squeeze and Unsqueeze, whose axes were an attribute before opset 13."""
        return self.add(operator, x, axes=axes) if self.opset < 13 else self.add(operator, x, self.whole(axes))

    def floats(self, values):
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), f"c{len(self.weights)}"))
        return self.weights[-1].name

    def whole(self, values):
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.int64), f"c{len(self.weights)}"))
        return self.weights[-1].name

    def conv(self, x, inputs, outputs, size=3, stride=1, gain=1.0):
        weight = self.draw.standard_normal((outputs, inputs, size, size)) * gain * (2 / (inputs * size**2)) ** 0.5
        bias = self.floats(0.1 * self.draw.standard_normal(outputs))
        return self.add("Conv", x, self.floats(weight), bias, pads=[size // 2] * 4, strides=[stride, stride])

    def unit(self, x, lambda_=0.8, kappa=1.1):
        """AGLU: z * exp(-softplus(log(lambda) - kappa * z) / lambda)."""
        inner = self.add("Add", self.add("Mul", x, self.floats(-kappa)), self.floats(np.log(lambda_)))
        inner = self.add("Mul", self.add("Softplus", inner), self.floats(-1 / lambda_))
        return self.add("Mul", x, self.add("Exp", inner))

    def boxes_and_scores(self):
        """Corners (1, cells, 4) in pixels, and scores (1, C, cells), as a YOLO head makes them."""
        x = "images"
        for channels, wider in ((3, 8), (8, 12), (12, 16)):
            x = self.unit(self.conv(x, channels, wider, stride=2))
        scores = self.add("Sigmoid", self.conv(x, 16, CLASSES, size=1, gain=3.0))
        scores = self.add("Reshape", scores, self.whole([1, CLASSES, _CELLS]))
        y, x_ = np.mgrid[0:SIDE:8, 0:SIDE:8].reshape(2, -1) + 4.0
        centres = self.floats(np.stack([x_, y])[None])
        halves = [
            self.add("Mul", self.add("Sigmoid", self.conv(x, 16, 2, size=1)), self.floats(24.0)) for _ in "ab"
        ]
        low, high = (self.add("Reshape", half, self.whole([1, 2, _CELLS])) for half in halves)
        corners = self.add("Concat", self.add("Sub", centres, low), self.add("Add", centres, high), axis=1)
        return self.add("Transpose", corners, perm=[0, 2, 1]), scores

    def model(self, outputs):
        """`outputs`: name -> (value, its type, its shape)."""
        self.nodes += [helper.make_node("Identity", [value], [name]) for name, (value, *_) in outputs.items()]
        values = [helper.make_tensor_value_info(name, kind, shape) for name, (_, kind, shape) in outputs.items()]
        image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
        graph = helper.make_graph(self.nodes, "detector", [image], values, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def ultralytics() -> onnx.ModelProto:
    """`yolo export nms=True`: the best class of a cell, NMS over boxes moved apart by class, one table."""
    w = Writer(17)
    corners, scores = w.boxes_and_scores()
    best = w.add("ReduceMax", scores, axes=[1], keepdims=1)
    label = w.add("Cast", w.add("ArgMax", scores, axis=1, keepdims=1), to=TensorProto.FLOAT)
    columns = [w.add("Transpose", x, perm=[0, 2, 1]) for x in (best, label)]
    moved = w.add("Add", corners, w.add("Mul", columns[1], w.floats(2.0 * SIDE)))
    kept = w.add("NonMaxSuppression", moved, best, w.whole([PLACES]), w.floats([0.45]), w.floats([0.3]))
    index = w.add("Gather", kept, w.whole(2), axis=1)
    table = w.with_axes("Squeeze", w.add("Concat", corners, *columns, axis=2), [0])
    padded = w.add("Pad", w.add("Gather", table, index, axis=0), w.whole([0, 0, PLACES, 0]))
    padded = w.add("Slice", padded, w.whole([0]), w.whole([PLACES]), w.whole([0]))
    return w.model({"output0": (w.with_axes("Unsqueeze", padded, [0]), TensorProto.FLOAT, [1, PLACES, 6])})


def end_to_end() -> onnx.ModelProto:
    """YOLO without an NMS: the best pairs of cell and class, one table."""
    w = Writer(17)
    corners, scores = w.boxes_and_scores()
    best, order = w.add("TopK", w.add("Reshape", scores, w.whole([1, -1])), w.whole([PLACES]), outputs=2, axis=1)
    label = w.add("Cast", w.add("Div", order, w.whole(_CELLS)), to=TensorProto.FLOAT)
    cell = w.with_axes("Unsqueeze", w.add("Mod", order, w.whole(_CELLS)), [2])
    boxes = w.add("GatherND", corners, cell, batch_dims=1)
    columns = [w.with_axes("Unsqueeze", x, [2]) for x in (best, label)]
    return w.model({"output0": (w.add("Concat", boxes, *columns, axis=2), TensorProto.FLOAT, [1, PLACES, 6])})


def mmdeploy() -> onnx.ModelProto:
    """Opset 11; the limits of NMS are scalars; dets and labels, padded with zeros."""
    w = Writer(11)
    corners, scores = w.boxes_and_scores()
    kept = w.add("NonMaxSuppression", corners, scores, w.whole(PLACES), w.floats(0.5), w.floats(0.3))
    label, box = (w.add("Gather", kept, w.whole(at), axis=1) for at in (1, 2))
    pairs = w.add("Concat", *(w.with_axes("Unsqueeze", x, [1]) for x in (label, box)), axis=1)
    score = w.add("GatherND", w.with_axes("Squeeze", scores, [0]), pairs)
    score = w.add("Pad", score, w.whole([0, PLACES]))
    best, order = w.add("TopK", score, w.whole([PLACES]), outputs=2, axis=0)
    boxes = w.add("Gather", w.with_axes("Squeeze", corners, [0]), box, axis=0)
    boxes = w.add("Gather", w.add("Pad", boxes, w.whole([0, 0, PLACES, 0])), order, axis=0)
    labels = w.add("Pad", w.add("Cast", label, to=TensorProto.FLOAT), w.whole([0, PLACES]))
    labels = w.add("Cast", w.add("Gather", labels, order, axis=0), to=TensorProto.INT64)
    dets = w.add("Concat", boxes, w.with_axes("Unsqueeze", best, [1]), axis=1)
    return w.model(
        {
            "dets": (w.with_axes("Unsqueeze", dets, [0]), TensorProto.FLOAT, [1, PLACES, 5]),
            "labels": (w.with_axes("Unsqueeze", labels, [0]), TensorProto.INT64, [1, PLACES]),
        }
    )


def kept_rows(w):
    """What NMS keeps, as many rows as it does: image, label, box and score."""
    corners, scores = w.boxes_and_scores()
    kept = w.add("NonMaxSuppression", corners, scores, w.whole([PLACES]), w.floats([0.45]), w.floats([0.3]))
    index, label, box = (w.add("Gather", kept, w.whole(at), axis=1) for at in (0, 1, 2))
    pairs = w.add("Concat", *(w.with_axes("Unsqueeze", x, [1]) for x in (index, box)), axis=1)
    return index, label, w.add("GatherND", corners, pairs), w.add("GatherND", scores, kept)


def torchvision() -> onnx.ModelProto:
    """Of one image, as many rows as there are, best first over all classes."""
    w = Writer(17)
    _, label, boxes, score = kept_rows(w)
    _, order = w.add("TopK", score, w.add("Shape", score), outputs=2, axis=0)
    named = {"boxes": (boxes, TensorProto.FLOAT, ["n", 4]), "labels": (label, TensorProto.INT64, ["n"])}
    named["scores"] = (score, TensorProto.FLOAT, ["n"])
    return w.model({k: (w.add("Gather", v, order, axis=0), *kind) for k, (v, *kind) in named.items()})


def yolov7() -> onnx.ModelProto:
    """`export.py --end2end --max-wh 640`: image, box, label, score; as many rows as there are."""
    w = Writer(17)
    index, label, boxes, score = kept_rows(w)
    columns = [w.with_axes("Unsqueeze", x, [1]) for x in (index, label, score)]
    image, label = (w.add("Cast", x, to=TensorProto.FLOAT) for x in columns[:2])
    return w.model(
        {"output": (w.add("Concat", image, boxes, label, columns[2], axis=1), TensorProto.FLOAT, ["n", 7])}
    )


def yolov7_for_tensorrt() -> onnx.ModelProto:
    """`export.py --end2end`: how many, then places with zeros behind; other tools call them detection_boxes ..."""
    w = Writer(17)
    _, label, boxes, score = kept_rows(w)
    best, order = w.add("TopK", w.add("Pad", score, w.whole([0, PLACES])), w.whole([PLACES]), outputs=2, axis=0)
    padded = w.add("Pad", w.add("Cast", label, to=TensorProto.INT32), w.whole([0, PLACES]))
    rows = {
        "det_boxes": (w.add("Pad", boxes, w.whole([0, 0, PLACES, 0])), TensorProto.FLOAT, [1, PLACES, 4]),
        "det_classes": (padded, TensorProto.INT32, [1, PLACES]),
    }
    found = {k: (w.with_axes("Unsqueeze", w.add("Gather", v, order), [0]), *kind) for k, (v, *kind) in rows.items()}
    count = w.add("ReduceSum", w.add("Cast", w.add("Greater", best, w.floats(0)), to=TensorProto.INT32))
    return w.model(
        {
            "num_dets": (w.add("Reshape", count, w.whole([1, 1])), TensorProto.INT32, [1, 1]),
            **found,
            "det_scores": (w.with_axes("Unsqueeze", best, [0]), TensorProto.FLOAT, [1, PLACES]),
        }
    )


GRAPHS = {
    "ultralytics": ultralytics,
    "end_to_end": end_to_end,
    "mmdeploy": mmdeploy,
    "torchvision": torchvision,
    "yolov7": yolov7,
    "yolov7_for_tensorrt": yolov7_for_tensorrt,
}
