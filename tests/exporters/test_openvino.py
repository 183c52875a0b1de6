"""`--format openvino`: two files and a passport, judged in OpenVINO, known to Session, verify, bench and doctor."""

import json
import threading

import numpy as np
import onnx
import pytest
import torch
from apa_exporters.cli import main
from apa_exporters.openvino import export as exporter
from apa_exporters.openvino.half_weights import store_weights_in_half
from onnx import TensorProto, helper, numpy_helper

from apa_deploy import Session
from apa_deploy.cli.bench import main as bench
from apa_deploy.cli.doctor import main as doctor
from apa_deploy.cli.verify import main as verify
from apa_deploy.errors import InputError
from apa_deploy.files import sha256
from apa_deploy.records.integrity import IntegrityError
from apa_deploy.records.passport import read_passport
from apa_deploy.runtimes.artifacts import OPENVINO, artifact_kind
from apa_deploy.runtimes.openvino import OpenVinoSession
from tests.networks import tiny_net

pytest.importorskip("openvino")
NETWORK = ["--model", "tests.networks:tiny_net", "--input-shape", "3x16x16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The checkpoint, exported in both precisions."""
    folder = tmp_path_factory.mktemp("openvino")
    torch.manual_seed(0)
    torch.save(tiny_net().state_dict(), folder / "model.pth")
    for precision in ("fp32", "fp16"):
        assert export(folder, f"{precision}.xml", "--precision", precision) == 0
    return folder


def export(folder, name, *options):
    source = str(folder / "model.pth")
    return main([source, *NETWORK, "--format", "openvino", "-o", str(folder / name), *map(str, options)])


def images(count=3):
    return np.random.default_rng(1).standard_normal((count, 3, 16, 16), dtype=np.float32)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_passport_tells_both_files_and_how_it_was_judged(folder, precision):
    passport = read_passport(folder / f"{precision}.xml.passport.json")
    assert {record.name: record.sha256 for record in passport.outputs} == {
        name: sha256(folder / name) for name in (f"{precision}.xml", f"{precision}.bin")
    }
    assert (passport.format, passport.options["precision"]) == ("openvino", precision)
    assert passport.options["inference_precision"] == "f32"
    check = next(one for one in passport.parity.outputs if one.runner.startswith("OpenVINO"))
    assert check.runner.endswith("inference precision f32")
    assert check.passed and check.max_rel <= check.limit
    assert (check.stored_max_rel is None) == (precision == "fp32")
    assert passport.versions["openvino"] != "absent"


def test_half_weights_take_half_the_room_and_are_off_by_their_rounding(folder):
    sizes = {name: (folder / f"{name}.bin").stat().st_size for name in ("fp32", "fp16")}
    assert sizes["fp16"] < 0.75 * sizes["fp32"]
    checks = read_passport(folder / "fp16.xml.passport.json").parity.outputs
    mine = next(one for one in checks if one.runner.startswith("OpenVINO"))
    assert 2.0**-18 < mine.stored_max_rel < 2.0**-7


def test_session_runs_it_from_several_threads(folder):
    x = images()
    module = tiny_net().eval()
    module.load_state_dict(torch.load(folder / "model.pth"))
    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    found = [None] * 4
    with Session(folder / "fp32.xml", threads=1) as session:
        name, out = session.input_names[0], session.output_names[0]

        def run(i):
            found[i] = session.run({name: x + 0})[out]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(found))]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        with pytest.raises(InputError, match="of type float64"):
            session.run({name: x.astype(np.float64)})
        with pytest.raises(InputError, match=r"shape \(3, 2, 16, 16\); wanted float32"):
            session.run({name: x[:, :2]})
    for one in found:
        np.testing.assert_allclose(one, wanted, rtol=0, atol=1e-5)


def test_verbs_know_it(folder, capsys, monkeypatch, verify_here):
    monkeypatch.chdir(folder)
    assert verify(["model.pth", "fp32.xml", "fp16.xml", *NETWORK]) == 0
    assert "OpenVINO" in capsys.readouterr().out
    assert bench(["fp32.xml", "fp16.xml", "--no-activations", "--launches", "2", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in measured["series"]} == {"fp32.xml", "fp16.xml"}
    assert doctor(["fp16.xml"]) == 0
    assert "OpenVINO takes the model" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["fp16.bin", "fp16.xml"])
def test_a_changed_file_is_refused(folder, name, tmp_path, capsys):
    for path in folder.glob("fp16.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IntegrityError):
        Session(tmp_path / "fp16.xml")
    assert doctor([str(tmp_path / "fp16.xml")]) == 3
    capsys.readouterr()


def test_cut_or_absent_weights_are_refused_without_a_passport(folder, tmp_path):
    (tmp_path / "m.xml").write_bytes((folder / "fp32.xml").read_bytes())
    with pytest.raises(InputError, match=r"Copy m\.bin beside it"):
        Session(tmp_path / "m.xml")
    (tmp_path / "m.bin").write_bytes((folder / "fp32.bin").read_bytes()[:100])
    with pytest.raises(InputError, match="OpenVINO says"):
        Session(tmp_path / "m.xml")


REFUSED = [
    (["--precision", "bf16"], "--precision bf16 with --format openvino"),
    (["--half-io"], "--half-io with --format openvino"),
    (["--batch", "1:2:4"], "--batch 1:2:4 with --format openvino"),
    (["-o", "m.onnx"], "a name that ends in .xml"),
]


@pytest.mark.parametrize(("options", "saw"), REFUSED, ids=[c[1] for c in REFUSED])
def test_refused_before_long_work(folder, options, saw, capsys):
    before = sorted(folder.iterdir())
    assert export(folder, "other.xml", *options) == 2
    assert saw in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_a_fault_in_openvino_is_found_and_nothing_is_written(folder, capsys, monkeypatch):
    def off(session, inputs, *_, run=OpenVinoSession.run):
        return {name: values * 1.001 for name, values in run(session, inputs).items()}

    monkeypatch.setattr(OpenVinoSession, "run", off)
    before = sorted(folder.iterdir())
    assert export(folder, "other.xml") == 1
    assert "OpenVINO" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_without_verification_nothing_is_judged(folder, precision, tmp_path):
    out = tmp_path / "new.xml"
    assert export(folder, out, "--no-verify", "--precision", precision) == 0
    assert read_passport(out.with_name("new.xml.passport.json")).parity.verdict == "not judged"


def test_a_fault_in_the_stored_weights_is_found(folder, capsys, monkeypatch):
    """The baseline has the same fault: its own limit, made of the network, shows it."""

    def coarse(model):
        store_weights_in_half(model)
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16:
                values = numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array((np.round(values * 4) / 4).astype(np.float16), tensor.name))
        return []

    monkeypatch.setattr(exporter, "store_weights_in_half", coarse)
    assert export(folder, "other.xml", "--precision", "fp16") == 1
    capsys.readouterr()
    assert not (folder / "other.xml").exists()


def test_an_operator_that_openvino_lacks_is_named(tmp_path, capsys):
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Strange", ["h"], ["y"], domain="some.where")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("some.where", 1)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    assert main([str(tmp_path / "m.onnx"), "--format", "openvino", "-o", str(tmp_path / "m.xml")]) == 2
    assert "some.where.Strange" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_weights_beyond_half_stay_whole():
    weights = np.full((2, 2), 1e5, np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert store_weights_in_half(model) == ["w"]
    onnx.checker.check_model(model, full_check=True)


def test_content_tells_the_kind(folder, tmp_path):
    """A name says nothing: the same file under another one."""
    (tmp_path / "m.model").write_bytes((folder / "fp32.xml").read_bytes())
    assert artifact_kind(tmp_path / "m.model") is OPENVINO
