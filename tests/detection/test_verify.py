"""apa-verify on detectors: what is right passes in any order, what is wrong fails, and half types by precision."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from apa_exporters.cli import main as export
from onnx import numpy_helper

from apa_deploy.cli.verify import main as verify
from apa_deploy.detection.gate import Reference, check_detections, check_raw
from apa_deploy.detection.module import Detections
from apa_deploy.detection.pictures import photograph
from apa_deploy.loading.load import load
from apa_deploy.parity.limits import precision_lost
from apa_deploy.parity.model_gate import explain_no_verdict
from tests.detection.small_detectors import SIZE, picture
from tests.detection.test_export import SHAPE, save

pytestmark = pytest.mark.usefixtures("verify_here")
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


def test_a_folder_of_pictures_is_drawn(exported, tmp_path, capsys):
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(photograph()).save(pictures / "a.png")
    Image.fromarray(photograph()[:, 40:150]).save(pictures / "b.jpg")
    given = ["--input-shape", SHAPE, "--inputs", str(pictures), "--report", str(tmp_path / "r.html")]
    assert verify([str(exported / "detector.pth"), str(exported / "right.onnx"), *given]) == 0
    page = (tmp_path / "r.html").read_text()
    for name in ("picture 1", "picture 2"):
        assert f"{name}, reference, float64: 12 best detections" in page and f"{name}, right.onnx" in page
    assert page.count("<image ") == 4


def test_activations_are_known_without_a_trace(exported, monkeypatch):
    """A trace costs more than all the rest that apa-verify does with a detector."""
    network = load(exported / "detector.pth")
    monkeypatch.setattr(type(network), "trace", lambda *_: pytest.fail("traced"))
    passport = json.loads((exported / "right.onnx.passport.json").read_text())
    assert [site.path for site in network.learned] == [one["path"] for one in passport["activations"]] != []


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


def test_a_right_file_passes_and_wrong_ones_fail(exported, capsys):
    wrong = [edited(exported, f"{fault.__name__}.onnx", fault) for fault in (more_suppression, wider_boxes)]
    files = [str(exported / "detector.pth"), str(exported / "right.onnx"), *wrong]
    assert verify([*files, *SHAPED, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["candidates"]
    assert [(one["passed"], one["failure"]) for one in found] == [(True, None), (False, None), (False, None)]
    outputs = {verdict["check"]["name"] for verdict in found[0]["outputs"]}
    assert {"boxes", "scores"} <= outputs


@pytest.mark.parametrize(
    ("change", "passed", "evidence"),
    [
        (lambda y: y * (1 + 1e-7), True, True),
        (lambda y: -y, False, True),
        (lambda y: y * 1.01, False, True),
        (lambda y: np.roll(y, 1, 1), False, True),
        (lambda y: np.where(np.arange(y.shape[1])[:, None, None] == 1, np.nan, y), False, True),
    ],
)
def test_raw_tensors_have_the_ceilings_of_every_gate(change, passed, evidence):
    right = np.random.default_rng(0).standard_normal((1, 4, 5, 5))
    found = {"rpn_cls0": change(right).reshape(1, -1, 5, 5)}
    [check] = check_raw("it", {"rpn_cls0": right}, [{"rpn_cls0": right * (1 + 1e-2)}], found, "fp32")
    assert (check.passed, check.evidence, check.min_cosine) == (passed, evidence, 0.999)
    assert check.limit == 1e-3
    assert "own float32" in explain_no_verdict([check])


@pytest.mark.parametrize(("factor", "passed"), [(1, True), (1.01, False)])
def test_a_class_that_is_scaled_is_seen(factor, passed):
    """In each RoI it is one number of 40, beside the rounding of all."""
    random = np.random.default_rng(0)
    right = random.standard_normal((1, 300, 40))
    stored, other = (right + 2e-3 * random.standard_normal(right.shape) for _ in "ab")
    found = other * np.where(np.arange(40) == 7, factor, 1)
    [check] = check_raw("it", {"cls_score": right}, [{"cls_score": stored}] * 2, {"cls_score": found}, "fp16")
    assert check.passed is passed and check.max_rel <= check.limit


def test_half_types_of_every_part_are_known(exported):
    """The baseline rounds what the graph stores in the type: sums of the neck, RoIs, the last layers' weights."""
    network = load(exported / "detector.pth", input_shape=(3, *SIZE))
    module = network.evaluation("fp16")
    for name in ("roi_head.bbox_head.fc_cls", "roi_head.mask_head.conv_logits", "rpn_head.rpn_cls"):
        weight = module.get_submodule(name).weight
        assert torch.equal(weight, weight.half().to(weight.dtype)), name
    seen = []
    for path in ("neck.fpn_convs.0", "roi_head.bbox_head"):
        module.get_submodule(path).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images, valid = picture()
    module(torch.from_numpy(images).double(), torch.from_numpy(valid).double())
    assert len(seen) == 2 and all(torch.equal(x, x.half().double()) for x in seen)


def test_raw_tensors_of_one_number_are_no_evidence():
    right = {"rpn_cls0": np.zeros((1, 4, 5, 5))}
    [check] = check_raw("it", right, [right], {"rpn_cls0": np.zeros((1, 4, 5, 5))}, "fp32")
    assert not check.evidence and "the same" in explain_no_verdict([check])


@pytest.mark.parametrize("place", [0, 1])
def test_a_float32_that_overflows_is_no_baseline(place):
    right = np.random.default_rng(0).standard_normal((1, 4, 5, 5))
    baselines = [right, np.where(right > 1, np.nan, right)]
    checks = [
        check_raw("it", {"rpn_cls0": right}, [{"rpn_cls0": b}], {"rpn_cls0": right}, "fp32")[0] for b in baselines
    ]
    assert "float32 overflows" in explain_no_verdict([checks[place], checks[1 - place]])


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.long)])
def test_half_types_report_average_precision(exported, precision, capsys):
    out = exported / f"{precision}.onnx"
    options = ["--precision", precision, "--input-shape", SHAPE, "-o", str(out)]
    assert export([str(exported / "detector.pth"), *options]) == 0
    assert "average precision" in capsys.readouterr().out


def detected(shift):
    """Four detections of two labels, as a file answers them, moved by `shift` pixels."""
    boxes = np.array([[0, 0, 20, 20], [30, 0, 60, 30], [0, 30, 40, 80], [50, 50, 90, 70]], np.float64) + shift
    scores, labels = np.array([0.9, 0.8, 0.6, 0.5]), np.array([0, 1, 0, 1])
    return {"boxes": boxes[None], "scores": scores[None], "labels": labels[None], "num": np.array([4])}


@pytest.mark.parametrize(
    ("stored", "shift", "least", "passed"),
    [(0, 0, 0.99, True), (0, 2, 0.99, False), (1, 1, None, True), (1, 12, None, False), (15, 15, 0, True)],
)
def test_half_types_may_lose_what_storing_costs(stored, shift, least, passed):
    """`stored`: how far storing alone moves the boxes; at most half of what it leaves may go."""
    truth = {name: torch.from_numpy(value[0]) for name, value in detected(0).items() if name != "num"}
    found = [Detections(**truth, rois=torch.arange(4), masks=None)]
    module = SimpleNamespace(detector=SimpleNamespace(nms_iou=0.5, score_thr=0.05, max_detections=4))
    proposals = np.array([[[0, 0, 20, 20, 1.0]]])
    reference = Reference({}, {}, proposals, found)
    check = check_detections(module, reference, detected(shift), proposals[:, :, :4], "it", detected(stored))
    assert check.passed is passed and (least is None or check.least_precision == pytest.approx(least))


@pytest.mark.parametrize(("stored", "lost"), [(1, 0.01), (0.99, 0.04), (0.9, 0.4), (0.5, 0.75), (0, 1)])
def test_the_precision_that_may_be_lost_is_never_all_of_what_storing_leaves(stored, lost):
    assert precision_lost(stored) == pytest.approx(lost)
