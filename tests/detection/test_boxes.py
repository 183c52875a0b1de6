"""The reference's RoIAlign and NMS against loops written from their definition."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from apa_deploy.detection.boxes import levels_of, nms, nms_by_class, overlaps, roi_align
from apa_deploy.detection.spec import RoiAlign
from apa_deploy.graph.reference_operators import OPERATORS


def _bilinear(image, y, x):
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y, x = (float(y0) if y0 == height - 1 else y), (float(x0) if x0 == width - 1 else x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    rows = [(y0, 1 - fy), (y1, fy)]
    return sum(wy * wx * image[r, c] for r, wy in rows for c, wx in ((x0, 1 - fx), (x1, fx)))


def _roi_align(image, box, stride, size, samples):
    x1, y1, x2, y2 = box / stride - 0.5
    bin_h, bin_w = (y2 - y1) / size, (x2 - x1) / size
    grid_h, grid_w = (samples, samples) if samples else (math.ceil(bin_h), math.ceil(bin_w))
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            for a in range(grid_h):
                for b in range(grid_w):
                    y, x = y1 + (i + (a + 0.5) / grid_h) * bin_h, x1 + (j + (b + 0.5) / grid_w) * bin_w
                    out[i, j] += _bilinear(image, y, x)
    return out / max(grid_h * grid_w, 1)


def test_roi_align_follows_its_definition():
    generator = np.random.default_rng(0)
    pyramid = [torch.from_numpy(generator.standard_normal((1, 40 >> i, 56 >> i))) for i in range(4)]
    corners = generator.uniform(0, 150, (40, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0, 120, (40, 2))], axis=1)
    boxes[0], boxes[1] = (10, 10, 10, 10), (0, 0, 224, 160)  # no area; everything
    for samples in (0, 2):
        align = RoiAlign(7, samples)
        found = roi_align(pyramid, torch.from_numpy(boxes), align).numpy()
        levels = levels_of(torch.from_numpy(boxes), align).tolist()
        for i, (box, level) in enumerate(zip(boxes, levels, strict=True)):
            wanted = _roi_align(pyramid[level][0].numpy(), box, 4 << level, 7, samples)
            assert np.abs(found[i, 0] - wanted).max() < 1e-12


def test_nms_keeps_what_greedy_suppression_keeps():
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 30, (200, 2))
    boxes = torch.from_numpy(np.concatenate([corners, corners + generator.uniform(0, 20, (200, 2))], axis=1))
    scores = torch.from_numpy(generator.uniform(0, 1, 200))
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if not kept or not (overlaps(boxes[i : i + 1], boxes[kept]) > 0.4).any():
            kept.append(i)
    assert nms(boxes, scores, 0.4).tolist() == kept
    every = nms_by_class(boxes[:, None], scores[:, None], 0.4, 0.0, 1000)
    assert every.rois.tolist() == kept
    assert nms_by_class(boxes[:, None], scores[:, None], 0.4, 0.0, 3).rois.tolist() == kept[:3]


def test_boxes_without_area_suppress_nothing():
    boxes, scores = torch.zeros(3, 4, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert len(nms(boxes, scores, 0.5)) == 3


def test_classes_suppress_only_their_own():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9.0]], dtype=torch.float64)[:, None]
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7]], dtype=torch.float64)
    kept = nms_by_class(boxes, scores, 0.5, 0.05, 10)
    assert list(zip(kept.rois.tolist(), kept.labels.tolist(), strict=True)) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("samples", [0, 2])
def test_the_evaluation_of_graphs_has_the_same_roi_align(samples):
    generator = np.random.default_rng(0)
    boxes = generator.random((40, 4), np.float32) * 100 - 10
    boxes[:, 2:] = boxes[:, :2] + generator.random((40, 2), np.float32) * 60
    boxes[3] = (-2e4, -2e4, -2e4 + 1, -2e4 + 1)  # outside the map: zeros
    maps = generator.standard_normal((2, 5, 20, 30), np.float32)
    node = helper.make_node(
        "RoiAlign", ["x", "r", "i"], ["y"], output_height=7, output_width=7, spatial_scale=0.25, mode="avg",
        sampling_ratio=samples, coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    feed = {"x": maps, "r": boxes, "i": generator.integers(0, 2, 40)}
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feed.items()}
    inputs = [helper.make_tensor_value_info(name, kinds[name], value.shape) for name, value in feed.items()]
    outputs = [helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph([node], "roi_align", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)[0]
    wide = {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in feed.items()}
    found = ReferenceEvaluator(model, new_ops=OPERATORS).run(None, wide)[0]
    assert np.abs(found - wanted).max() < 1e-4 and not found[3].any()
