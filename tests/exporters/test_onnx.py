"""apa_exporters.onnx: what comes out, in every shape, opset and size."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from apa_exporters.onnx import export as exporter
from apa_exporters.onnx.export import OnnxOptions, export_onnx
from apa_exporters.onnx.onnx_file import data_path, write_onnx
from apa_exporters.onnx.options import FORMATS

from apa_deploy.errors import InputError
from apa_deploy.files import OutputError
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.records.passport import passport_path, read_passport
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation, tiny_net

SHAPE = (3, 16, 16)


@pytest.fixture
def model():
    return TorchNetwork(tiny_net(), image_signature(SHAPE), Metadata("tiny", source="tiny.pth", sha256="0" * 64))


def run(path, x):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": x})


@pytest.mark.parametrize("format", FORMATS)
def test_exports_verified_with_a_passport(model, format, tmp_path):
    out = tmp_path / "m.onnx"
    passport = export_onnx(model, out, OnnxOptions(format=format))
    assert passport.parity.passed
    assert read_passport(passport_path(out)) == passport
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.passport.json"]
    assert [(a.path, a.kind, a.form) for a in passport.activations] == [
        ("act1", "AGLU", "anl"), ("se.gate", "APA", "anl"), ("act2", "AGLU", "limit"),
    ]  # fmt: skip
    proto = onnx.load(out)
    kept = [node.op_type for node in proto.graph.node if node.domain == "com.apa"]
    assert kept == (["AGLU", "APA", "AGLU"] if format == "onnx-custom" else [])
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert {t.data_type for t in proto.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    facts = {p.key: p.value for p in proto.metadata_props}
    assert json.loads(facts["apa.activations"])["act2"]["lambda"] == [1e-8]


@pytest.mark.parametrize("format", FORMATS)
def test_batch_height_and_width_are_dynamic(model, format, tmp_path):
    export_onnx(model, tmp_path / "m.onnx", OnnxOptions(format=format, verify=False))
    for shape in ((1, 3, 16, 16), (5, 3, 33, 18)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        with torch.inference_mode():
            wanted = model.module.double()(torch.from_numpy(x).double()).numpy()
        # float32 against float64 over four layers: a few 1e-7 relative
        assert np.abs(run(tmp_path / "m.onnx", x)[0] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_fixed_batch(model, tmp_path):
    export_onnx(model, tmp_path / "m.onnx", OnnxOptions(batch=3))
    dims = onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_value == 3


@pytest.mark.parametrize(("opset", "ir"), [(18, 8), (20, 9), (21, 10), (23, 11)])
def test_opset_and_lowest_ir_version(model, opset, ir, tmp_path):
    export_onnx(model, tmp_path / "m.onnx", OnnxOptions(format="onnx-custom", opset=opset))
    proto = onnx.load(tmp_path / "m.onnx")
    assert ({e.domain: e.version for e in proto.opset_import}[""], proto.ir_version) == (opset, ir)


def test_two_runs_make_the_same_bytes(model, tmp_path):
    first, second = (export_onnx(model, tmp_path / f"{i}.onnx", OnnxOptions(verify=False)) for i in (1, 2))
    assert first.outputs[0].sha256 == second.outputs[0].sha256


def test_nothing_of_this_machine_is_in_the_file(model, tmp_path):
    export_onnx(model, tmp_path / "m.onnx", OnnxOptions(format="onnx-custom", verify=False))
    content = (tmp_path / "m.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(tmp_path).encode() not in content


def test_weights_above_the_limit_lie_beside_the_model(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3), RawActivation(), torch.nn.Flatten(1), torch.nn.Linear(64 * 36, 8)
    )
    model = TorchNetwork(net.eval(), image_signature((3, 8, 8)), Metadata("wide"))
    proto = exporter.decompose(model.trace().proto)
    x = np.ones((2, 3, 8, 8), np.float32)
    write_onnx(proto, tmp_path / "small.onnx")
    wanted = run(tmp_path / "small.onnx", x)
    written = write_onnx(proto, tmp_path / "large.onnx", largest=10_000)
    assert written == [tmp_path / "large.onnx", data_path(tmp_path / "large.onnx")]
    assert written[0].stat().st_size < 10_000 < written[1].stat().st_size
    np.testing.assert_array_equal(run(tmp_path / "large.onnx", x), wanted)


def test_large_export_records_both_files(model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "write_onnx", lambda proto, path: write_onnx(proto, path, largest=100))
    passport = export_onnx(model, tmp_path / "m.onnx", OnnxOptions())
    assert [f.name for f in passport.outputs] == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx.data").is_file()


def test_existing_output_needs_force(model, tmp_path):
    out = tmp_path / "m.onnx"
    out.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        export_onnx(model, out, OnnxOptions(verify=False))
    assert out.read_text() == "mine"
    export_onnx(model, out, OnnxOptions(verify=False, force=True))
    assert onnx.load(out).graph.node


def test_users_inputs(model, tmp_path):
    np.savez(tmp_path / "mine.npz", input=np.random.default_rng(0).standard_normal((7, *SHAPE)))
    passport = export_onnx(model, tmp_path / "m.onnx", OnnxOptions(inputs=tmp_path / "mine.npz"))
    assert (passport.parity.inputs, passport.parity.outputs[0].samples) == ("mine.npz", 7)


def _npz(tmp_path, **arrays):
    np.savez(tmp_path / "in.npz", **arrays)
    return tmp_path / "in.npz"


BAD = [
    ("opset 17", lambda _: OnnxOptions(opset=17), "--opset 17"),
    ("opset 99", lambda _: OnnxOptions(opset=99), "18 to 23"),
    ("batch 0", lambda _: OnnxOptions(batch=0), "--batch 0"),
    ("no such inputs", lambda t: OnnxOptions(inputs=t / "none.npz"), "none.npz"),
    ("inputs of another name", lambda t: OnnxOptions(inputs=_npz(t, x=np.ones((1, *SHAPE)))), "array 'input'"),
    ("inputs of another rank", lambda t: OnnxOptions(inputs=_npz(t, input=np.ones(3))), "finite numbers of shape"),
    ("inputs with NaN", lambda t: OnnxOptions(inputs=_npz(t, input=np.full((1, *SHAPE), np.nan))), "finite"),
]


@pytest.mark.parametrize(("options", "saw"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_options_leave_nothing_behind(options, saw, model, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(InputError, match=saw):
        export_onnx(model, folder / "m.onnx", options(tmp_path))
    assert not list(folder.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_half_activations_between_float32_operators_are_judged_as_half(format, tmp_path):
    """A layer norm and an average stay float32, and so do outputs: what a trace calls their values is not half."""

    class Ends(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.act, self.gate = torch.nn.LayerNorm(16), RawActivation(), RawActivation(kind="APA")

        def forward(self, x):
            return self.gate(self.act(self.norm(x)).mean((2, 3)))

    network = TorchNetwork(Ends().eval(), image_signature(SHAPE), Metadata("ends"))
    passport = export_onnx(network, tmp_path / "m.onnx", OnnxOptions(format=format, precision="fp16"))
    assert passport.parity.passed
    assert {check.limit > 1e-4 for check in passport.parity.activations} == {True}


def test_network_without_activation_is_exported_with_a_notice(tmp_path, capsys):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    passport = export_onnx(
        TorchNetwork(net.eval(), image_signature(SHAPE), Metadata("plain")), tmp_path / "m.onnx", OnnxOptions()
    )
    assert passport.parity.passed
    assert "no learned activation" in capsys.readouterr().err
