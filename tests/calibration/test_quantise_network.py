"""Calibrate, quantise and judge small networks: accurate where it should be, red where a fault is planted."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from apa_deploy.calibration import CalibrationError, Quantisation, QuantisationError, quantise, read_calibration
from apa_deploy.calibration.data import CalibrationData
from apa_deploy.calibration.gate import decibel
from apa_deploy.calibration.ranges import collect_ranges, open_calibration_session
from apa_deploy.errors import InputError
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.quantise import CPU, TENSORRT, TENSORRT_FP8
from apa_deploy.graph.quantise.codes import U8
from tests import quantise_networks as networks


def samples(count=64, seed=3):
    generator = np.random.default_rng(seed)
    coarse = generator.standard_normal((count, 3, 4, 4)).repeat(4, 2).repeat(4, 3)
    return (coarse + 0.3 * generator.standard_normal((count, 3, 16, 16))).astype(np.float32)


def _data(count=64):
    return CalibrationData({"x": samples(count)}, None, "samples.npz")


def _quantised(network, placement=CPU, **options):
    model = networks.build(network)  # without bodies, and no library is given
    return quantise(model, _data(), Quantisation(placement=placement, reduced=True, min_sqnr=20, **options))


NETWORKS = ["plain", "residual", "squeeze", "spatial", "pooled", "shortcut", "concat", "silu", "relu", "channels"]


@pytest.mark.parametrize("placement", [CPU, TENSORRT, TENSORRT_FP8], ids=["cpu", "tensorrt", "fp8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_close_to_float32(name, placement):
    """Random weights lose more than trained ones: 20 dB; each layer alone keeps the limit."""
    if placement is TENSORRT_FP8 and name not in ("residual", "squeeze"):
        pytest.skip("fp8 differs in its codes alone")
    quality = _quantised(getattr(networks, name), placement).record.quality
    assert quality.passed and quality.codes_off <= 1
    assert min(layer.sqnr for layer in quality.layers) >= 25


def test_mse_and_auto_keep_float():
    result = _quantised(networks.residual, method="mse", auto_keep_float=1)
    assert list(result.record.kept.values()).count("--keep-float") == 1
    assert len(result.record.layers) == 2


def test_mse_cuts_an_outlier_off():
    model = with_functions(networks.build(networks.plain))
    x = samples()
    x[0, 0, 0, 0] = 100
    spans = {
        method: collect_ranges(model, ["x"], {"x": x}, method=method, codes=U8)["x"] for method in ("minmax", "mse")
    }
    assert spans["minmax"][1] == 100 > spans["mse"][1]


FAULTS = [
    ("weights a tenth too small", "apa_deploy.graph.quantise.rewrite.weight_codes", lambda w, s, a, c: (
        (np.asarray(w) / s.reshape([-1 if i == a else 1 for i in range(w.ndim)]) * 0.9).round().astype(np.int8))),
]  # fmt: skip


@pytest.mark.parametrize(("place", "fault"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_planted_fault_is_refused(monkeypatch, place, fault):
    monkeypatch.setattr(place, fault)
    model = with_functions(networks.build(networks.residual))
    with pytest.raises(QuantisationError, match=r"--keep-float .*--auto-keep-float 2"):
        quantise(model, _data(256), Quantisation(reduced=True))


def _inputs():
    return networks.build(networks.plain).graph.input


def _save(folder, **arrays):
    np.savez(folder / "c.npz", **arrays)
    return str(folder / "c.npz")


BAD = [
    ("missing", lambda f: str(f / "none.npz"), "no such file"),
    ("no npz", lambda f: str((f / "c.npz").write_bytes(b"no") and f / "c.npz"), "npz"),
    ("another name", lambda f: _save(f, image=samples()), "arrays image; wanted x of shape"),
    ("NaN", lambda f: _save(f, x=np.where(np.arange(64)[:, None, None, None] == 5, np.nan, samples())), "sample 5"),
    ("infinite", lambda f: _save(f, x=samples() / np.float32(0)), "NaN or infinity"),
    ("15 samples", lambda f: _save(f, x=samples(15)), "15 samples; wanted 16 or more"),
    ("one sample without a batch", lambda f: _save(f, x=samples(1)[0]), r"shape \(3, 16, 16\)"),
    ("channels last", lambda f: _save(f, x=samples().transpose(0, 2, 3, 1)), r"shape \(64, 16, 16, 3\)"),
    ("integers", lambda f: _save(f, x=samples().astype(np.int64)), "type int64"),
    ("text", lambda f: _save(f, x=np.array(["a"] * 64)), "type <U1"),
    ("all the same", lambda f: _save(f, x=np.ones((64, 3, 16, 16), "f")), "all the same"),
    ("labels of another length", lambda f: _save(f, x=samples(), y=np.arange(9)), "arrays of one length"),
    ("labels of floats", lambda f: _save(f, x=samples(), y=np.ones(64)), "labels of shape"),
    ("labels below 0", lambda f: _save(f, x=samples(), y=np.arange(64) - 1), "a label of -1; wanted 0 or more"),
    ("no number of float32", lambda f: _save(f, x=samples().astype(float) * [1e300]), "infinity in x, sample 0"),
    ("nothing", lambda f: "", "no such file"),
    ("arrays of objects", lambda f: _save(f, x=np.array([{}] * 64)), "x.npy holds Python objects"),
    ("cut short", lambda f: str((f / "c.npz").write_bytes(b"PK\3\4" * 9) and f / "c.npz"), "or one cut short"),
    ("a folder without pixels", lambda f: str(f), "--preprocess"),
    ("no such module", lambda f: "nothing_here:f", "nothing_here"),
    ("a pickle", lambda f: str(np.save(f / "c.npy", np.array([{}]), allow_pickle=True) or f / "c.npy"), "npy"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:divide")
@pytest.mark.parametrize(("given", "says"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_unusable_data_is_refused(tmp_path, given, says):
    with pytest.raises(InputError, match=says) as caught:
        read_calibration(given(tmp_path), _inputs())
    assert caught.value.exit_code == 2 and isinstance(caught.value, InputError | CalibrationError)


LOADERS = [
    # body of a function, what the message says
    ("for one in x: yield one, 1", ""),  # samples without a batch axis
    ("return x", ""),
    ("yield {'x': x, 'y': np.arange(64)}", ""),
    ("yield torch.tensor(x, requires_grad=True)", ""),
    ("yield {'image': x}", "arrays image; wanted x of shape .* Name it so.$"),
    ("yield x; raise KeyError('mine')", "KeyError: 'mine'; wanted package.module:function .* --debug"),
    ("raise SystemExit(3); yield", "SystemExit: 3"),
    ("return 5", "'int' object is not iterable"),
    ("return iter(())", "no batch at all"),
    ("while True: yield x[:0]", "an empty batch"),
    ("yield {}", "an empty batch"),
    ("yield None", "NoneType; wanted arrays of numbers"),
    ("yield x, x, 1", "inhomogeneous shape.*wanted arrays of numbers"),
    ("yield x; yield x[:, :, :8]", "wanted batches of one shape"),
]


@pytest.mark.parametrize(("body", "says"), LOADERS, ids=[row[0] for row in LOADERS])
def test_what_a_function_gives(tmp_path, monkeypatch, body, says):
    np.save(tmp_path / "x.npy", samples())
    loads = f"x = np.load({str(tmp_path / 'x.npy')!r})"
    (tmp_path / "my_loader.py").write_text(f"import numpy as np, torch\n{loads}\ndef give():\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    if not says:
        assert read_calibration("my_loader:give", _inputs()).feed["x"].shape == (64, 3, 16, 16)
        return
    with pytest.raises(InputError, match=says) as caught:
        read_calibration("my_loader:give", _inputs())
    assert caught.value.exit_code == 2


def test_an_input_without_a_batch_axis_is_named(tmp_path):
    scale = onnx.helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, [])
    with pytest.raises(CalibrationError, match="input scale has no batch axis"):
        read_calibration(_save(tmp_path, x=samples(), scale=np.float32(2)), [*_inputs(), scale])


def test_a_sample_far_beyond_the_others_is_named(tmp_path, capsys):
    x = samples()
    x[9, 0, 0, 0] = 1e6
    read_calibration(_save(tmp_path, x=x), _inputs())
    assert "x reaches 1e+06 in sample 9" in capsys.readouterr().err


def test_a_label_that_is_no_class_is_refused():
    data = CalibrationData({"x": samples(32)}, np.arange(32), "samples.npz")
    with pytest.raises(CalibrationError, match="a label of 31; wanted at most 4"):
        quantise(networks.build(networks.plain), data, Quantisation(reduced=True))


KEPT = [
    ({"keep_float": ("*",)}, "--keep-float of every layer"),
    ({"auto_keep_float": 2}, "--auto-keep-float 2; wanted fewer than the 2 layers"),
]


@pytest.mark.parametrize(("options", "says"), KEPT, ids=["by pattern", "by count"])
def test_one_layer_stays_in_8_bits(options, says):
    with pytest.raises(InputError, match=says):
        quantise(networks.build(networks.plain), _data(), Quantisation(reduced=True, **options))


def test_advice_leaves_a_layer_in_8_bits():
    with pytest.raises(QuantisationError, match=r"or --auto-keep-float 1;"):
        quantise(networks.build(networks.plain), _data(), Quantisation(reduced=True, min_sqnr=99))


def test_samples_that_the_network_refuses():
    builder = networks.Builder()
    table = builder.constant(np.ones((4, 3, 16, 16), "f"))
    model = builder.model(builder.head(builder.conv(builder.add("Gather", table, "ids"), 3, name="stem")))
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"]))
    data = CalibrationData({"ids": np.arange(32)}, None, "samples.npz")
    with pytest.raises(InputError, match=r"fails on a calibration sample.*out of data bounds"):
        quantise(model, data, Quantisation(reduced=True))


def test_data_is_spread_and_a_quarter_is_held_back(tmp_path):
    labels = np.arange(600) // 60  # sorted by class
    data = read_calibration(_save(tmp_path, x=samples(600), y=labels), _inputs(), samples=128)
    used, held = data.split()
    assert (len(used), len(held)) == (96, 32)
    assert set(held.labels) == set(range(10))
    few = CalibrationData({"x": samples(16)}, None, "few").split()
    assert [len(part) for part in few] == [8, 8]
    assert not {r.tobytes() for r in used.feed["x"]} & {r.tobytes() for r in held.feed["x"]}


def test_npy_and_functions(tmp_path, monkeypatch):
    np.save(tmp_path / "c.npy", samples())
    assert len(read_calibration(str(tmp_path / "c.npy"), _inputs())) == 64
    (tmp_path / "my_data.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    r = np.random.default_rng(0)\n"
        "    while True:\n"
        "        yield r.standard_normal((4, 3, 16, 16)).astype('f'), np.array([1, 2, 3, 4])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = read_calibration("my_data:batches", _inputs(), samples=32)
    assert len(data) == 32 and data.labels is not None


def test_a_fixed_batch_is_filled_up():
    model = with_functions(networks.build(networks.plain))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    result = quantise(model, _data(33), Quantisation(reduced=True, min_sqnr=15, judge=True))
    assert result.record.quality.samples == 8


def test_nothing_to_quantise():
    builder = networks.Builder()
    model = with_functions(builder.model(builder.unit("x"), shape=["n", 3, 16, 16]))
    with pytest.raises(InputError, match="without a layer to quantise"):
        quantise(model, _data(), Quantisation())


def test_decibel():
    assert decibel(np.ones(10), np.ones(10)) == 150
    assert decibel(np.ones(10), np.full(10, 0.9)) == pytest.approx(20)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_the_worst_there_is(wrong):
    """`min` takes NaN for the larger of two: such an output once had 150 dB."""
    assert decibel(np.ones(10), np.array([1.0] * 9 + [wrong])) == -150


def test_the_same_answer_to_every_sample_proves_nothing():
    data = CalibrationData({"x": np.repeat(samples(1), 32, axis=0)}, None, "samples.npz")
    with pytest.raises(QuantisationError, match="the same answer of the float network"):
        quantise(networks.build(networks.plain), data, Quantisation(reduced=True, min_sqnr=0))


def test_the_file_loads_without_our_library(tmp_path):
    result = _quantised(networks.squeeze)
    onnx.save(result.proto, tmp_path / "m.onnx")
    assert open_calibration_session(onnx.load(tmp_path / "m.onnx"), []).run(None, {"x": samples(2)})[0].shape == (
        2,
        5,
    )
