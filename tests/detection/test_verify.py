"""apa-verify on detectors: what is right passes in any order, what is wrong fails, and half types by precision."""

import numpy as np
import onnx
import pytest
from apa_exporters.cli import main as export
from onnx import numpy_helper

from apa_deploy.cli.verify import main as verify
from tests.detection.test_export import SHAPE, save

SHAPED = ["--input-shape", SHAPE, "--batch", "1"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    source = save(folder / "detector.pth")
    options = ["--input-shape", SHAPE, "--no-verify", "-o"]
    assert export([str(source), *options, str(folder / "right.onnx")]) == 0
    return folder


def edited(folder, name, change):
    model = onnx.load(folder / "right.onnx")
    change(model)
    onnx.save(model, folder / name)
    return str(folder / name)


def test_a_right_file_passes(exported, capsys):
    assert verify([str(exported / "detector.pth"), str(exported / "right.onnx"), *SHAPED]) == 0
    assert "boxes" in capsys.readouterr().out


def more_suppression(model):
    """Another NMS threshold: fewer detections, each of them right."""
    last = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"][-1]
    tensor = next(one for one in model.graph.initializer if one.name == last.input[3])
    new = numpy_helper.from_array(np.array([0.2], np.float32), "another_threshold")
    model.graph.initializer.append(new)
    last.input[3] = new.name
    assert tensor.name != new.name


def wider_boxes(model):
    """Boxes half a percent larger: labels, scores and their number stay what they are."""
    node = next(node for node in model.graph.node if "boxes" in node.output)
    node.output[0] = "boxes/right"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.005), "wider"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["boxes/right", "wider"], ["boxes"]))


@pytest.mark.parametrize("fault", [more_suppression, wider_boxes])
def test_a_wrong_file_fails(exported, fault, capsys):
    path = edited(exported, f"{fault.__name__}.onnx", fault)
    assert verify([str(exported / "detector.pth"), path, *SHAPED]) == 1


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.long)])
def test_half_types_report_average_precision(exported, precision, capsys):
    out = exported / f"{precision}.onnx"
    options = ["--precision", precision, "--input-shape", SHAPE, "-o", str(out)]
    assert export([str(exported / "detector.pth"), *options]) == 0
    assert "average precision" in capsys.readouterr().out
