"""`--precision int8` and `fp8` as users type them, for every format, from a folder of their own."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from apa_exporters.cli import main

import apa_deploy
from apa_deploy.calibration import Quantisation, quantise
from apa_deploy.calibration.data import CalibrationData
from apa_deploy.calibration.gate import decibel
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.quantise import TENSORRT, TENSORRT_FP8
from apa_deploy.graph.twin import twin
from tests import quantise_networks as networks


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model and samples, where the user stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(with_functions(networks.build(networks.squeeze)), tmp_path / "net.onnx")
    x = np.random.default_rng(3).standard_normal((48, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "c.npz", x=x, y=np.arange(48) % 5)
    return tmp_path


INT8 = ["net.onnx", "--precision", "int8", "--calibration", "c.npz", "--min-sqnr", "20", "--reduce-range"]


def test_onnx_custom_is_the_default_format(place, capsys):
    assert main([*INT8, "--report", "r.html"]) == 0
    said = capsys.readouterr().out
    assert "3 layers (7-bit weights), 3 activations" in said and "weakest layers alone" in said
    record = json.loads((place / "net.custom.onnx.passport.json").read_text())["quantisation"]
    assert record["reduced"] and record["samples"] == 48 and not record["quality"]["failures"]
    assert record["kept"]["se.gate"] == "a gate"
    assert str(place) not in (place / "net.custom.onnx.passport.json").read_text()
    assert "Signal to noise by layer" in (place / "r.html").read_text()
    x = {"x": np.load(place / "c.npz")["x"][:4]}
    answers = [next(iter(apa_deploy.Session(place / f).run(x).values())) for f in ("net.onnx", "net.custom.onnx")]
    assert decibel(*answers) > 20
    assert apa_deploy.Session(place / "net.custom.onnx").prepared


def test_onnx_has_standard_operators_only(place, capsys):
    assert main([*INT8, "--format", "onnx", "-o", "plain.onnx"]) == 0
    assert "onnx-custom is far faster" in capsys.readouterr().err
    model = onnx.load(place / "plain.onnx")
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    # Decomposed it is recognised by its curve all the same.
    made = onnx.load(apa_deploy.Session(place / "plain.onnx").prepared)
    assert sum(node.op_type.endswith("AGLU") for node in made.graph.node) == 3


FP8 = ["--precision", "fp8", "--calibration", "c.npz", "--format"]
AUTO = ["--precision", "auto", "--calibration", "c.npz", "--format"]
OTHERS = ("onnx", "onnx-custom", "triton", "openvino", "trt-rtx")
WRONG = [
    # what is typed after the model, what the message says
    (["--precision", "int8"], "--precision int8 without --calibration; wanted about 256 inputs"),
    (["--calibration", "c.npz"], "--calibration with --precision fp32; wanted --precision int8"),
    (["--keep-float", "a"], "--keep-float with --precision fp32"),
    ([*INT8[1:], "--half-io"], "--half-io with --precision int8"),
    ([*INT8[1:], "--calibration-samples", "8"], "16 or more"),
    ([*INT8[1:], "--keep-float", "nothing*"], "a pattern that matches one of: stem, a, b"),
    ([*INT8[1:], "--ort-library", "none.so"], "--ort-library none.so: no such file"),
    (["--precision", "int8", "--calibration", "none.npz"], "no such file"),
    *(([*FP8, f], f"--precision fp8 with --format {f}") for f in ("onnx", "onnx-custom", "triton", "openvino")),
    *(([*AUTO, f], f"--precision auto with --format {f}; wanted --format trt.") for f in OTHERS),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "says"), WRONG, ids=[" ".join(w[0][-2:]) for w in WRONG])
def test_misuse_ends_with_2_and_writes_nothing(place, capsys, typed, says):
    before = sorted(place.rglob("*"))
    assert main(["net.onnx", *typed]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert sorted(place.rglob("*")) == before


def test_too_much_lost_ends_with_1_and_writes_nothing(place, capsys):
    before = sorted(place.rglob("*"))
    assert main([*INT8[:-2], "99"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "limit 99 dB" in said and "--keep-float" in said and "--auto-keep-float 2" in said
    assert sorted(place.rglob("*")) == before


def test_trt_bundle_has_symmetric_codes(place):
    command = [*INT8[:-1], "--format", "trt", "--bundle", "b", "--activation", "decomposed", "--batch", "2"]
    assert main(command) == 0
    model = onnx.load(place / "b/model.onnx")
    zeros = [t for t in model.graph.initializer if t.name.endswith("/codes_zero")]
    assert zeros and all(
        t.data_type == onnx.TensorProto.INT8 and not onnx.numpy_helper.to_array(t).any() for t in zeros
    )
    recipe = json.loads((place / "b/recipe.json").read_text())
    assert recipe["precision"] == "int8" and all(0 < v["limit"] < 0.5 for v in recipe["limits"].values())


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_trt_rtx(place, precision):
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    command = ["net.onnx", "--precision", precision, "--calibration", "c.npz", "--min-sqnr", "15"]
    command += ["--format", "trt-rtx", "--compute-capability", "8.9", "--batch", "2"]
    assert main(command) == 0
    passport = json.loads((place / "net.engine.passport.json").read_text())
    assert any("--precision fp16" in text for text in passport["notices"])
    assert passport["quantisation"]["target"] == "tensorrt"


@pytest.mark.parametrize("placement", [TENSORRT, TENSORRT_FP8], ids=["int8", "fp8"])
@pytest.mark.parametrize("network", [networks.residual, networks.squeeze], ids=["residual", "squeeze"])
def test_as_many_rtx_launches_as_silu_and_relu(network, placement, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    from apa_exporters.tensorrt_rtx.build_process import Job, build_in_child

    x = np.random.default_rng(3).standard_normal((32, 3, 16, 16)).astype(np.float32)
    options = Quantisation(placement=placement, judge=False)
    model = quantise(with_functions(networks.build(network)), CalibrationData({"x": x}, None, "x"), options).proto
    forms = {"silu": lambda m: twin(m, "silu"), "relu": lambda m: twin(m, "relu"), "learned": decompose}
    counts = {}
    for name, form in forms.items():
        onnx.save(form(onnx.ModelProto.FromString(model.SerializeToString())), tmp_path / f"{name}.onnx")
        paths = {"model": f"{name}.onnx", "engine": f"{name}.engine", "log": f"{name}.log"}
        files = {key: str(tmp_path / value) for key, value in paths.items()}
        job = Job(**files, sample_shape=(3, 16, 16), batches=(2, 2, 2), capabilities=("SM89",), strip_weights=False)
        counts[name] = sum(build_in_child(job, lambda *_: None).launches.values())
    assert len(set(counts.values())) == 1, counts


def test_triton(place):
    pytest.importorskip("tritonclient", reason="the extra serve is not installed")
    assert main([*INT8, "-o", "eight.onnx"]) == 0
    assert main(["eight.onnx", "--format", "triton", "-o", "repository"]) == 0
    assert list((place / "repository").rglob("model.onnx"))
