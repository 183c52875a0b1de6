"""A whole detector in every format: what is written, how it is judged there, and what is refused by name."""

import importlib.util
import io
import json
import sys
import types

import numpy as np
import onnx
import onnxruntime
import pytest
from apa_exporters.cli import main
from apa_exporters.tensorrt.on_target import golden
from apa_exporters.tensorrt.on_target.recipe import GAINS, INPUTS, TRUTH, read_recipe

from apa_deploy.detection.pictures import paste_masks, photograph, rescale
from tests.detection.test_export import SHAPE, save


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector with masks, and its file of fused operators, not judged."""
    folder = tmp_path_factory.mktemp("formats")
    save(folder / "detector.pth", "coco")
    options = ["--format", "onnx-custom", "--input-shape", SHAPE, "--no-verify"]
    assert main([str(folder / "detector.pth"), *options, "-o", str(folder / "detector.onnx")]) == 0
    return folder


def exported(folder, form, out, *options):
    arguments = [str(folder / "detector.pth"), "--format", form, "--input-shape", SHAPE, "-o", str(folder / out)]
    return main([*arguments, *options])


def run(path, feed):
    session = onnxruntime.InferenceSession(str(path))
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.long)])
def test_openvino_finds_the_same(folder, precision, capsys):
    pytest.importorskip("openvino")
    assert exported(folder, "openvino", f"{precision}.xml", "--precision", precision) == 0
    checks = json.loads((folder / f"{precision}.xml.passport.json").read_text())["parity"]["outputs"]
    own = {check["name"]: check for check in checks if check["runner"].startswith("OpenVINO")}
    assert set(own) == (
        {"boxes", "scores", "labels", "masks", "num"} if precision == "fp32" else {"loss of average precision"}
    )
    assert all(check["passed"] for check in own.values())


def test_a_bundle_judges_detections_on_its_target(folder, capsys):
    assert (
        exported(folder, "trt", "d.engine", "--bundle", str(folder / "bundle"), "--activation", "decomposed") == 0
    )
    bundle = folder / "bundle"
    recipe = read_recipe(bundle)
    assert recipe.detections.nms_iou == 0.5 and recipe.shapes["valid_wh"] == [[1, 2]] * 3
    assert json.loads((bundle / "passport.json").read_text())["options"]["detector"]["pairs"] <= 5000
    for name in ("rows", "matching"):  # they run where apa_deploy is not
        text = (bundle / "apa_target" / f"{name}.py").read_text()
        assert "class " in text and "import apa_deploy" not in text and "from .." not in text
    (feed,), (gains,), truth = (golden.load(bundle / name) for name in (INPUTS, GAINS, TRUTH))
    found = run(bundle / "model.onnx", feed)

    def passes(found):
        checks = golden.check("TensorRT", truth, [found], recipe.limits, recipe.detections, gains)
        return all(check["passed"] for check in checks)

    assert passes(found)
    assert passes({name: value[:, ::-1] if value.ndim > 1 else value for name, value in found.items()})
    assert not passes(found | {"boxes": found["boxes"] + 0.02})
    assert not passes(found | {"scores": found["scores"] * 0.999})
    assert not passes(found | {"num": found["num"] - 3})
    assert not passes(found | {"masks": 1 - found["masks"]})


def test_rtx_builds_what_lies_before_nms(folder, capsys):
    pytest.importorskip("tensorrt_rtx")
    assert exported(folder, "trt-rtx", "x.engine", "--no-verify", "--compute-capability", "8.6") == 0
    said = capsys.readouterr().err
    assert "NonMaxSuppression" in said and "RoiAlign" in said and "--format trt" in said
    passport = json.loads((folder / "x.engine.passport.json").read_text())
    assert passport["output_names"][:2] == ["rpn_boxes", "rpn_scores"]
    assert (folder / "x.engine").stat().st_size > 100_000


def test_rtx_names_the_nms_of_other_files(tmp_path, capsys):
    pytest.importorskip("tensorrt_rtx")
    from tests.detection.detector_graphs import ultralytics

    onnx.save(ultralytics(), tmp_path / "u.onnx")
    assert main([str(tmp_path / "u.onnx"), "--format", "trt-rtx", "-o", str(tmp_path / "u.engine")]) == 2
    assert "NonMaxSuppression" in capsys.readouterr().err
    assert not (tmp_path / "u.engine").exists()


class Tensor:
    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


def load_backend(folder):
    """The model.py of a Python backend's folder, begun as Triton does; a function from arrays to arrays."""
    config = json.loads(json.dumps({"parameters": {}, "input": []}))
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2 as pb

    message = text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())
    config |= json_format.MessageToDict(message, preserving_proto_field_name=True)
    file = importlib.util.spec_from_file_location(f"model_{folder.name}", folder / "1" / "model.py")
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps(config)})

    def answer(arrays):
        (response,) = model.execute([arrays])
        return {tensor.name: tensor.array for tensor in response}

    return answer


@pytest.fixture
def triton(monkeypatch):
    """The server's module for its Python backend."""
    fake = types.ModuleType("triton_python_backend_utils")
    fake.Tensor, fake.InferenceResponse = Tensor, lambda tensors=None, error=None: tensors or error
    fake.TritonError = ValueError
    fake.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name]) if name in request else None
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake)


@pytest.mark.parametrize("pixels", [False, True])
def test_ensemble_answers_in_the_pictures_pixels(folder, pixels, triton, capsys):
    from PIL import Image

    source, out = folder / "detector.onnx", folder / f"{pixels}.triton"
    if pixels:
        source = folder / "pixels.onnx"
        assert exported(folder, "onnx", "pixels.onnx", "--preprocess", "mmdet", "--no-verify") == 0
    options = ["--format", "triton", "--ensemble", "--name", "det", "-o", str(out), "--input-shape", SHAPE]
    assert main([str(source), *options]) == 0
    picture, file = photograph(), io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    sent = {"image": np.array([[file.getvalue()]], object)}
    prepared = load_backend(out / "det_image")(sent)
    sizes = prepared["sizes"]
    assert sizes[0].tolist() == [800, 1203, 149, 224]  # 1333 x 800 at most
    network = run(source, {name: value for name, value in prepared.items() if name != "sizes"})
    given = {"sizes": sizes, "net_boxes": network["boxes"], "net_masks": network["masks"]}
    found = load_backend(out / "det_boxes")(given)
    count = int(network["num"][0])
    boxes = rescale(network["boxes"][0], (800, 1203), (149, 224))
    assert count > 3 and np.array_equal(found["boxes"][0], boxes) and boxes.max() <= 224
    wanted = paste_masks(network["masks"][0], boxes, 149, 224, 0.5)
    assert np.array_equal(found["masks"][0], wanted) and wanted[:count].any()
    ensemble = (out / "det" / "config.pbtxt").read_text()
    assert 'value: "net_boxes"' in ensemble and "TYPE_BOOL" in ensemble


def test_serves_the_outputs_as_they_are(folder, monkeypatch):
    import urllib.request
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "serving"))
    from serving_process import ServerProcess

    from apa_deploy.detection.pictures import photograph_feed

    feed = photograph_feed((3, 96, 128))
    inputs = [
        {"name": n, "shape": list(v.shape), "datatype": "FP32", "data": v.ravel().tolist()} for n, v in feed.items()
    ]
    with ServerProcess(folder / "detector.onnx") as server:
        url = f"http://{server.http}/v2/models/detector/infer"
        request = urllib.request.Request(url, json.dumps({"inputs": inputs}).encode())
        with urllib.request.urlopen(request, timeout=120) as answer:
            outputs = {o["name"]: o for o in json.load(answer)["outputs"]}
    wanted = run(folder / "detector.onnx", feed)
    assert list(outputs) == ["boxes", "scores", "labels", "masks", "num"]
    for name, value in wanted.items():
        got = np.array(outputs[name]["data"], value.dtype).reshape(outputs[name]["shape"])
        assert got.shape == value.shape and np.allclose(got, value, rtol=1e-4, atol=1e-3), name
