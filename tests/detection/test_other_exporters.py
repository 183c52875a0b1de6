"""Graphs of the shapes that Ultralytics, mmdeploy and end-to-end YOLO write: folded, and judged by detections."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from apa_exporters.cli import main as export
from onnx import helper, numpy_helper

from apa_deploy.cli.verify import main as verify
from apa_deploy.loading.onnx_file import network_from_onnx
from apa_deploy.loading.onnx_network import read_rows
from apa_deploy.parity.model_gate import check_recorded
from apa_deploy.tensors.inputs import seeded_feeds
from tests.detection.detector_graphs import GRAPHS, SIDE


def written(folder, name, change=None):
    model = GRAPHS[name]()
    if change:
        change(model.graph)
    path = folder / f"{name}{change.__name__ if change else ''}.onnx"
    onnx.save(model, path)
    return str(path)


def behind(graph, operator, *constants, **attributes):
    """One operator more behind the first output."""
    node = next(n for n in graph.node if n.output[0] == graph.output[0].name)
    node.output[0] = "before"
    names = [f"fault{i}" for i in range(len(constants))]
    graph.initializer.extend(numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True))
    graph.node.append(helper.make_node(operator, ["before", *names], [graph.output[0].name], **attributes))


def wider(graph):
    behind(graph, "Mul", np.array([1, 1, 1.001, 1.001, 1, 1], np.float32)[: 5 if len(graph.output) > 1 else 6])


def one_less(graph):
    behind(graph, "Mul", (np.arange(20) != 4).astype(np.float32)[:, None])


def turned_round(graph):
    """Another order, which is no fault; of one output, as its rows are whole then."""
    behind(graph, "Gather", np.arange(20)[::-1].copy(), axis=1)


@pytest.mark.parametrize("name", GRAPHS)
def test_folds_and_judges(name, tmp_path, capsys):
    source = written(tmp_path, name)
    assert export([source, "-o", str(tmp_path / "out.onnx"), "--explain"]) == 0
    said = capsys.readouterr()
    assert "3 activations" in said.out and "left as it was" not in said.err


@pytest.mark.parametrize("fault", [None, wider, one_less, turned_round])
@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_a_fault(name, fault, tmp_path):
    if fault is turned_round and name == "mmdeploy":
        return  # of two outputs one alone would be turned
    network = network_from_onnx(Path(written(tmp_path, name)))
    feeds = seeded_feeds(network.signature, 1)
    session = onnxruntime.InferenceSession(written(tmp_path, name, fault))
    found = dict(zip(network.output_names, session.run(None, feeds[0]), strict=True))
    checks = check_recorded([found], "candidate", network, feeds, "fp32")
    assert all(check.passed for check in checks) == (fault in (None, turned_round))


def test_verb_takes_another_order(tmp_path, capsys, verify_here):
    assert verify([written(tmp_path, "end_to_end"), written(tmp_path, "end_to_end", turned_round)]) == 0


@pytest.mark.parametrize("name", ["ultralytics", "mmdeploy"])
def test_nothing_detected_cannot_be_judged(name, tmp_path, capsys):
    def nothing(graph):
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
