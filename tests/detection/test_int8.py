"""Whole detectors in 8 bits: backbone and neck in codes, the rest in float32, judged by what is detected."""

import json
import urllib.request

import numpy as np
import onnx
import pytest
from apa_exporters.cli import main
from onnx import numpy_helper

from apa_deploy.calibration import CalibrationError, Quantisation, QuantisationError, quantise, read_calibration
from apa_deploy.calibration.data import CalibrationData
from apa_deploy.calibration.detections import judge_detections
from apa_deploy.detection.module import Detector
from apa_deploy.detection.pictures import network_input, photograph, resize
from apa_deploy.detection.spec import DetectorSpec, Rpn
from apa_deploy.errors import GateError
from apa_deploy.loading.load import load
from apa_deploy.runtimes.session import Session
from apa_deploy.verification.reference import pictures_for
from tests.detection.small_detectors import SIZE
from tests.detection.test_export import SHAPE, save

HEADS = {f"roi_head.bbox_head.{n}" for n in ("shared_fcs.0", "shared_fcs.1", "fc_cls", "fc_reg")}


def cuttings(count):
    """Parts of the photograph, as the network takes them: `images` and `valid_wh`."""
    generator, whole = np.random.default_rng(0), photograph()
    images, sizes = np.zeros((count, 3, *SIZE), np.float32), []
    for image in images:
        side = generator.integers(70, 149)
        y, x = generator.integers(0, 149 - side + 1), generator.integers(0, 224 - side + 1)
        part = resize(whole[y : y + side, x : x + side], SIZE[0], SIZE[0])
        (image[:, :, : SIZE[0]],), (size,) = network_input([part], DetectorSpec("", "", Rpn(), ()))
        sizes.append(size)
    return {"images": images, "valid_wh": np.array(sizes)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    save(folder / "detector.pth", "coco")
    np.savez(folder / "samples.npz", **cuttings(32))
    return folder


def export(folder, form, out, *options):
    given = ["--precision", "int8", "--calibration", str(folder / "samples.npz"), "--input-shape", SHAPE]
    return main([str(folder / "detector.pth"), "--format", form, "-o", str(folder / out), *given, *options])


def nodes_behind(model, name):
    """Operators of what follows from the value `name`."""
    reached, found = {name}, set()
    for node in model.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            found.add(node.op_type)
    return found


def test_is_exported_to_triton_and_served(folder, capsys, monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "serving"))
    from serving_process import ServerProcess

    assert export(folder, "triton", "repository", "--name", "det") == 0
    said = capsys.readouterr().out
    assert "average precision" in said and "what noise of 25 dB in the neck's maps leaves" in said
    file = folder / "repository" / "det" / "1" / "model.onnx"
    record = json.loads((file.parent / "model.onnx.passport.json").read_text())["quantisation"]
    found = record["quality"]["detections"]
    assert found["pictures"] == 8 and 0.3 < found["limit"] < found["average_precision"] < 1
    assert {"neck.lateral_convs.0.conv", "neck.fpn_convs.3.conv", "conv1"} <= set(record["layers"])
    assert all(record["kept"][name] == "decides about detections" for name in HEADS | {"rpn_head.rpn_conv"})
    model = onnx.load(file)
    coders = {"QuantizeLinear", "DequantizeLinear"}
    assert sum(node.op_type in coders for node in model.graph.node) > 100
    assert "NonMaxSuppression" in nodes_behind(model, "fpn2") and not coders & nodes_behind(model, "fpn2")
    feed = cuttings(2)
    inputs = [
        {"name": n, "shape": list(v.shape), "datatype": "FP32", "data": v.ravel().tolist()} for n, v in feed.items()
    ]
    with ServerProcess(folder / "repository") as server:
        request = urllib.request.Request(
            f"http://{server.http}/v2/models/det/infer", json.dumps({"inputs": inputs}).encode()
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            outputs = {one["name"]: one for one in json.load(answer)["outputs"]}
    with Session(file) as session:
        wanted = session.run(feed)
    assert list(outputs) == ["boxes", "scores", "labels", "masks", "num"] and (wanted["num"] > 0).all()
    for name, value in wanted.items():
        got = np.array(outputs[name]["data"], value.dtype).reshape(outputs[name]["shape"])
        assert np.allclose(got, value, rtol=1e-4, atol=1e-3), name


@pytest.mark.parametrize(("form", "precision"), [("trt", "int8"), ("trt", "auto"), ("trt-rtx", "int8")])
def test_engines_are_refused_by_name(folder, form, precision, capsys):
    assert export(folder, form, "d.engine", "--precision", precision) == 2
    assert f"--precision {precision} with a whole detector in --format {form}" in capsys.readouterr().err
    assert not (folder / "d.engine").exists()


@pytest.fixture(scope="module")
def judged(folder):
    """The network, what 8 bits make of it, and four pictures that are held back."""
    network = load(folder / "detector.pth", input_shape=(3, *SIZE))
    traced, data = network.trace(), CalibrationData(cuttings(16), None, "samples.npz")
    result = quantise(traced.proto, data, Quantisation(features=traced.features))
    held = CalibrationData({name: rows[:4] for name, rows in cuttings(40).items()}, None, "samples.npz")
    return network, traced.features, result, held


def scaled(model, change):
    """`model` with the scales of the neck's maps changed where they leave their codes."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for node in other.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in ("fpn0", "fpn1", "fpn2", "fpn3"):
            scale = numpy_helper.to_array(next(t for t in other.graph.initializer if t.name == node.input[1]))
            new = numpy_helper.from_array(scale * np.float32(change), f"{node.output[0]}/off")
            other.graph.initializer.append(new)
            node.input[1] = new.name
    return other


@pytest.mark.parametrize("change", [1, 0.8])
def test_average_precision_is_judged(judged, change):
    """A fifth less of each map costs more than noise of 25 dB; the maps' own gate is not asked here."""
    import dataclasses

    network, features, result, held = judged
    result.record.quality.failures = []
    changed = dataclasses.replace(result, proto=scaled(result.proto, change))
    if change == 1:
        judge_detections(changed, network, features, held, 25)
        found = result.record.quality.detections
        assert found.limit < found.average_precision < 1
        return
    with pytest.raises(QuantisationError, match=r"average precision .* float64's detections in 4 pictures"):
        judge_detections(changed, network, features, held, 25)


def test_float64_computes_no_masks_to_judge_precision_by(judged, monkeypatch):
    network, feed = judged[0], {name: rows[:1] for name, rows in judged[3].feed.items()}
    whole = network.outputs(feed)
    monkeypatch.setattr(Detector, "masks", None)
    found = network.without_masks().outputs(feed)
    assert list(found) == ["boxes", "scores", "labels", "num"] and found["num"] > 0
    assert all(np.array_equal(found[name], whole[name]) for name in found)


def test_a_picture_of_bytes_is_computed_once_too(judged, monkeypatch):
    network = judged[0].with_pixels("mmdet", "nhwc", "rgb")
    feed = {"images": photograph()[None, :96, :128]}
    found = network.outputs(feed)
    monkeypatch.setattr(Detector, "forward", None)
    assert all(np.array_equal(value, found[name]) for name, value in network.outputs(feed).items())


def test_nothing_detected_cannot_be_judged(judged, monkeypatch):
    network, features, result, held = judged
    nothing = {name: value * 0 for name, value in network.outputs({k: v[:1] for k, v in held.feed.items()}).items()}
    monkeypatch.setattr(network, "without_masks", lambda: network)
    monkeypatch.setattr(network, "outputs", lambda feed, dtype: nothing)
    with pytest.raises(GateError, match="float64 detects nothing in 4 pictures held back") as caught:
        judge_detections(result, network, features, held, 25)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_a_folder_of_pictures_is_one_array_an_input(judged, tmp_path, layout, channels):
    from PIL import Image

    (tmp_path / "night").mkdir()  # of a detector no class
    for i in range(16):
        Image.fromarray(photograph()[:, i * 4 :]).save(tmp_path / ("night" if i % 4 == 0 else "") / f"{i:02}.png")
    network = judged[0]
    graph = network.trace().proto.graph
    plain = read_calibration(str(tmp_path), graph.input, pictures=pictures_for(network, preprocess=None))
    assert plain.feed["images"].shape == (16, 3, *SIZE) and len(np.unique(plain.feed["valid_wh"], axis=0)) > 8
    of_bytes = network.with_pixels("mmdet", layout, channels)
    (value,) = of_bytes.trace().proto.graph.input
    pictures = pictures_for(of_bytes, preprocess="mmdet", channels=channels)
    got = of_bytes.normalise(read_calibration(str(tmp_path), [value], pictures=pictures).feed)["images"]
    assert np.abs(got - plain.feed["images"]).max() < 0.02  # the padding, half a level off at most


SAMPLES = [
    ("no sizes", lambda x: {"images": x["images"]}, r"valid_wh of shape \(N, 2\)"),
    ("all the same", lambda x: {k: v[:1].repeat(16, 0) for k, v in x.items()}, "16 samples that are all the same"),
    ("one size of all", lambda x: x | {"valid_wh": x["valid_wh"][:1].repeat(16, 0)}, None),
]


@pytest.mark.parametrize(("change", "says"), [s[1:] for s in SAMPLES], ids=[s[0] for s in SAMPLES])
def test_samples_of_both_inputs(judged, tmp_path, change, says):
    np.savez(tmp_path / "c.npz", **change(cuttings(16)))
    inputs = judged[0].trace().proto.graph.input
    if says is None:
        assert len(read_calibration(str(tmp_path / "c.npz"), inputs)) == 16
        return
    with pytest.raises(CalibrationError, match=says):
        read_calibration(str(tmp_path / "c.npz"), inputs)
