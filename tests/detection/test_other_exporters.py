"""Graphs of the shapes that Ultralytics, mmdeploy and end-to-end YOLO write: folded, and judged by detections."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from apa_exporters.cli import main as export
from onnx import helper, numpy_helper

from apa_deploy.cli.verify import main as verify
from apa_deploy.detection.rows import Rows, align_rows
from apa_deploy.loading.onnx_file import network_from_onnx
from apa_deploy.loading.onnx_network import read_rows
from apa_deploy.parity.model_gate import check_recorded
from apa_deploy.tensors.inputs import seeded_feeds
from tests.detection.detector_graphs import GRAPHS, SIDE


def written(folder, name, change=None):
    model = GRAPHS[name]()
    if change:
        change(model.graph, name)
    path = folder / f"{name}{change.__name__ if change else ''}.onnx"
    onnx.save(model, path)
    return str(path)


def behind(graph, output, operator, *constants, **attributes):
    """One operator more behind `output`."""
    node = next(n for n in graph.node if n.output[0] == output)
    node.output[0] = f"{output}/before"
    names = [f"{output}/fault{i}" for i in range(len(constants))]
    graph.initializer.extend(numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True))
    graph.node.append(helper.make_node(operator, [f"{output}/before", *names], [output], **attributes))


# The output with the boxes, and the column of the third corner's first coordinate.
CORNERS = {"torchvision": ("boxes", 2), "yolov7": ("output", 3), "yolov7_for_tensorrt": ("det_boxes", 2)}
# Those whose rows are of one output, or of several that have nothing but rows.
WHOLE_ROWS = {"ultralytics": 1, "end_to_end": 1, "torchvision": 0, "yolov7": 0}


def wider(graph, name):
    output, column = CORNERS.get(name, (graph.output[0].name, 2))
    width = graph_width(graph, output)
    factors = np.where(np.isin(np.arange(width), (column, column + 1)), 1.001, 1).astype(np.float32)
    behind(graph, output, "Mul", factors)


def graph_width(graph, output):
    return next(o for o in graph.output if o.name == output).type.tensor_type.shape.dim[-1].dim_value


def one_less(graph, name):
    """The fifth detection is no more; of padded ones its score is 0."""
    if name in ("torchvision", "yolov7"):
        for output in graph.output:
            behind(graph, output.name, "Gather", np.array([0, 1, 2, 3, 5, 6]), axis=0)
        return
    output = "det_scores" if name == "yolov7_for_tensorrt" else graph.output[0].name
    factors = (np.arange(20) != 4).astype(np.float32)
    behind(graph, output, "Mul", factors if output == "det_scores" else factors[:, None])


def turned_round(graph, name):
    """Another order, which is no fault where whole rows move."""
    for output in graph.output:
        axis = WHOLE_ROWS[name]
        steps = [np.array([v]) for v in (-1, -(1 << 31), axis, -1)]  # from the last, past the first
        behind(graph, output.name, "Slice", *steps)


@pytest.mark.parametrize("name", GRAPHS)
def test_folds_and_judges(name, tmp_path, capsys):
    source = written(tmp_path, name)
    assert export([source, "-o", str(tmp_path / "out.onnx"), "--explain"]) == 0
    said = capsys.readouterr()
    assert "3 activations" in said.out and "left as it was" not in said.err


@pytest.mark.parametrize("fault", [None, wider, one_less, turned_round])
@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_a_fault(name, fault, tmp_path):
    if fault is turned_round and name not in WHOLE_ROWS:
        return  # zeros behind the last row would come first
    network = network_from_onnx(Path(written(tmp_path, name)))
    feeds = seeded_feeds(network.signature, 1)
    session = onnxruntime.InferenceSession(written(tmp_path, name, fault))
    found = dict(zip(network.output_names, session.run(None, feeds[0]), strict=True))
    checks = check_recorded([found], "candidate", network, feeds, "fp32")
    assert all(check.passed for check in checks) == (fault in (None, turned_round))


@pytest.mark.parametrize("name", ["end_to_end", "torchvision"])
def test_verb_takes_another_order(name, tmp_path, capsys, verify_here):
    files = [written(tmp_path, name, change) for change in (None, turned_round, one_less)]
    assert verify([*files, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["candidates"]
    assert [(one["passed"], one["failure"]) for one in found] == [(True, None), (False, None)]


def detected(*scores):
    """A detection in the form of torchvision for each of `scores`, and of YOLOv7 in the second of two images."""
    low = np.arange(len(scores))[:, None] * np.array([40.0, 0.0])
    boxes, labels, scores = np.concatenate([low, low + 30], 1), np.arange(len(scores)), np.array(scores)
    table = np.concatenate([np.ones((len(scores), 1)), boxes, labels[:, None], scores[:, None]], 1)
    first = np.array([[0, 5, 5, 25, 25, 0, 0.5]])
    return {"boxes": boxes, "labels": labels, "scores": scores}, {"output": np.concatenate([first, table])}


@pytest.mark.parametrize(
    ("scores", "right"),
    [
        ((0.9, 0.8, 0.7, 0.30005), True),
        ((0.9, 0.8, 0.7), True),  # the last lay at the threshold
        ((0.9, 0.8), False),
        ((0.9, 0.8, 0.7, 0.30005, 0.30002), True),
        ((0.9, 0.8, 0.7, 0.30005, 0.6), False),
        ((), False),
    ],
)
def test_rounding_decides_how_many_rows_there_are(scores, right):
    for found, truth in zip(detected(*scores), detected(0.9, 0.8, 0.7, 0.30005), strict=True):
        aligned, wanted = (align_rows(one, truth, Rows(0.45, 0.3)) for one in (found, truth))
        shapes = {name: value.shape for name, value in aligned.items()}
        assert shapes == {name: value.shape for name, value in wanted.items()} or not right
        same = all(np.array_equal(aligned[name], value) for name, value in wanted.items())
        assert same is right


@pytest.mark.parametrize("name", ["ultralytics", "mmdeploy", "torchvision", "yolov7"])
def test_nothing_detected_cannot_be_judged(name, tmp_path, capsys):
    def nothing(graph, _):
        scores = next(n for n in graph.node if n.op_type == "NonMaxSuppression").input[4]
        tensor = next(t for t in graph.initializer if t.name == scores)
        tensor.CopyFrom(numpy_helper.from_array(np.ones_like(numpy_helper.to_array(tensor)), scores))

    source = written(tmp_path, name, nothing)
    assert export([source, "-o", str(tmp_path / "out.onnx")]) == 1
    said = capsys.readouterr().err
    assert "nothing detected" in said and "--inputs" in said and "--no-verify" in said
    assert not (tmp_path / "out.onnx").exists()
    np.savez(tmp_path / "noise.npz", images=np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32))
    assert export([source, "-o", str(tmp_path / "out.onnx"), "--inputs", str(tmp_path / "noise.npz")]) == 1
    assert export([source, "-o", str(tmp_path / "out.onnx"), "--no-verify"]) == 0


@pytest.mark.parametrize("given", [2, 3, 4, 5])
def test_nms_may_leave_out_its_limits(given):
    """Overlap and score are 0 then, as the operator says; without `most` it keeps nothing."""
    limits = {"most": np.int64(3), "iou": np.float32(0.5), "score": np.float32(0.25)}
    names = ["boxes", "scores", *limits][:given]
    graph = helper.make_graph([helper.make_node("NonMaxSuppression", names, ["kept"])], "g", [], [])
    graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in limits.items())
    rows = read_rows(graph)
    assert (rows.nms_iou, rows.score_thr) == (0.5 if given > 3 else 0.0, 0.25 if given > 4 else 0.0)
