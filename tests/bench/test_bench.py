"""`apa-bench`: what it measures, writes and refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from apa_deploy.bench.inputs import feeds_of
from apa_deploy.cli.bench import main
from apa_deploy.graph.decompose import decompose
from apa_deploy.measure.twins import with_plain
from apa_deploy.records.passport import passport_path, read_passport
from apa_deploy.report import read_report
from tests import networks
from tests.bench.conftest import ACTIVATIONS, CHANNELS, SIDE, canonical, save
from tests.networks import RawActivation, TinyNet, tiny_net

QUICK = ["--launches", "2", "--rounds", "2", "--duration", "0.01", "--warmup", "1"]
ALONE = [*QUICK, "--no-activations"]
KERNELS = "3 fused on CPUExecutionProvider (2 AGLU, 1 APA)"


def measured(capsys, *arguments, code=0):
    assert main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_side_by_side_with_a_twin(plain, fused, tmp_path, capsys):
    page = tmp_path / "r.json"
    written = ["--passport", "--report", page]
    found = measured(capsys, plain, fused, "--against", "silu", "--threads", 1, *written, *QUICK)
    series = {one["name"]: one for one in found["series"]}
    assert list(series) == ["plain.onnx", "fused.onnx", "silu twin of plain.onnx"]  # both forms have one twin
    for one in series.values():
        samples = np.concatenate(one["rounds"])
        assert len(one["rounds"]) == 4
        assert one["p50"]["value"] == pytest.approx(np.median(samples))
        assert one["throughput"]["value"] == pytest.approx(1e3 / samples.mean())
        assert one["p50"]["low"] <= one["p50"]["value"] <= one["p90"]["value"] <= one["p99"]["value"]
        assert len(one["loads_s"]) == 2
        assert one["peak_memory_bytes"] > 20e6
    assert {c["baseline"] for c in found["comparisons"]} == {"silu twin of plain.onnx"}
    assert {c["name"] for c in found["comparisons"]} == {"plain.onnx", "fused.onnx"}
    assert not found["failures"]
    assert found["environment"]["cores"] >= 1
    assert found["environment"]["cpu"]
    _check_traffic(found)
    _check_passport(fused, series["fused.onnx"])
    _check_kernels(series)
    report = read_report(page)
    assert f"activations of fused.onnx: {KERNELS}." in report.verdict.reasons
    assert len(report.latency) == 3
    assert "--against silu" in report.commands[0]


def _check_kernels(series):
    assert series["fused.onnx"]["placement"]["fused"] == {"CPUExecutionProvider": {"AGLU": 2, "APA": 1}}
    assert series["plain.onnx"]["placement"]["fused"] == {}


def _check_traffic(found):
    sizes = {"act": CHANNELS * SIDE * SIDE, "limit": CHANNELS * SIDE * SIDE, "gate": CHANNELS}
    rows = {(row["artifact"], row["path"]): row for row in found["traffic"]}
    assert set(rows) == {(name, path) for name in ("plain.onnx", "fused.onnx") for path in ACTIVATIONS}
    for (_, path), row in rows.items():
        assert row["kind"] == ACTIVATIONS[path][0]
        assert row["bytes"] == 2 * 4 * sizes[path]  # read once, written once, float32
        assert row["ms"] > 0
        assert 0 < row["copy_fraction"] < 2  # a copy is faster, but for noise
    assert found["copy_bytes_per_s"] > 1e7


def _check_passport(path, series):
    kept = read_passport(passport_path(path)).latency
    assert [one.name for one in kept.series] == [path.name]
    assert kept.series[0].rounds == series["rounds"]
    assert str(kept.series[0].placement) == KERNELS
    assert kept.comparisons[0].baseline == "silu twin of plain.onnx"


def test_batches_threads_and_runtimes(fused, capsys):
    found = measured(capsys, fused, "--batch", "1,4", "--runtime", "onnxruntime,openvino", "--threads", 1, *ALONE)
    assert {(one["name"], one["batch"]) for one in found["series"]} == {
        (f"fused.onnx ({runtime})", batch) for runtime in ("onnxruntime", "openvino") for batch in (1, 4)
    }
    assert {one["runtime"].split()[0] for one in found["series"]} == {"onnxruntime", "openvino"}
    assert {one["baseline"] for one in found["comparisons"]} == {"fused.onnx (onnxruntime)"}


def test_a_checkpoint_beside_its_twin(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(networks.__file__), tmp_path)
    torch.save(tiny_net().state_dict(), tmp_path / "net.pth")
    once = ["--launches", "1", "--rounds", "1", "--duration", "0.01"]
    model = ["--model", "networks:TinyNet", "--input-shape", "3x16x16"]
    found = measured(capsys, "net.pth", *model, "--against", "relu", "--threads", 1, *once)
    assert [one["name"] for one in found["series"]] == ["net.pth", "relu twin of net.pth"]
    assert all(one["runtime"].startswith("torch 2.") for one in found["series"])
    assert found["comparisons"] == []  # the luck of one launch is unknown
    assert found["series"][0]["p50"]["low"] is None


def test_the_twin_of_a_module():
    net = with_plain(TinyNet(), "relu")
    kinds = [type(module).__name__ for module in net.modules()]
    assert kinds.count("ReLU") == 2
    assert kinds.count("Sigmoid") == 1
    assert not any(isinstance(module, RawActivation) for module in net.modules())


def test_one_that_cannot_is_named_and_the_other_goes_on(plain, tmp_path, capsys):
    fixed = save(decompose(canonical(batch=1)), tmp_path / "fixed.onnx")
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"plan")
    found = measured(capsys, fixed, plain, engine, "--batch", 2, *ALONE, code=1)
    assert [one["name"] for one in found["series"]] == ["plain.onnx"]
    reasons = {one["name"]: one["reason"] for one in found["failures"]}
    assert set(reasons) == {"fixed.onnx", "model.engine"}
    assert "--batch 1" in reasons["fixed.onnx"]
    assert main([str(fixed), str(plain), "--batch", "2", *ALONE]) == 1
    assert "not measured: fixed.onnx: batch 2; wanted 1" in capsys.readouterr().out


def test_nothing_to_measure_exits_1(tmp_path, capsys):
    fixed = save(decompose(canonical(batch=1)), tmp_path / "fixed.onnx")
    assert main([str(fixed), "--batch", "2", *ALONE]) == 1
    assert "which the file has built in" in capsys.readouterr().err


def test_a_runtime_that_is_not_here_exits_3(fused, capsys):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is here")
    cuda = ["--runtime", "onnxruntime-cuda,onnxruntime-tensorrt"]
    assert main([str(fused), *cuda, *ALONE]) == 3
    said = capsys.readouterr().err
    assert "error: fused.onnx (onnxruntime-cuda): provider CUDAExecutionProvider, which the installed" in said
    assert "pip install onnxruntime-gpu" in said
    beside = ["--runtime", "onnxruntime,onnxruntime-cuda"]
    found = measured(capsys, fused, *beside, *ALONE, code=1)  # the other is measured
    assert [one["name"] for one in found["series"]] == ["fused.onnx (onnxruntime)"]
    assert set(found["failures"][0]) == {"name", "batch", "threads", "reason"}


def test_sizes_come_from_the_command_line_or_are_asked_for(plain, capsys):
    passport_path(plain).unlink()
    assert main([str(plain), *ALONE]) == 2
    assert "--input input=SHAPE" in capsys.readouterr().err
    for given in (("--input-shape", "3x8x8"), ("--input", "input=3x8x8")):
        assert len(measured(capsys, plain, *given, *ALONE)["series"]) == 1
    assert main([str(plain), "--input", "ids=8", *ALONE]) == 2
    assert "--input ids; wanted an input of plain.onnx: input" in capsys.readouterr().err


def test_sizes_of_tokens_come_from_the_passport(tmp_path, capsys):
    """Sizes are of any rank, and of every input that they fit."""
    ends = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"]) for n in ("ids", "mask")]
    sums = helper.make_tensor_value_info("sum", TensorProto.INT64, ["batch", "length"])
    graph = helper.make_graph([helper.make_node("Add", ["ids", "mask"], ["sum"])], "g", ends, [sums])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = save(model, tmp_path / "tokens.onnx", input_shape=(12,))
    assert [spec.dims for spec in feeds_of(path, None)] == [("batch", 12)] * 2
    assert len(measured(capsys, path, *ALONE)["series"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.onnx"], "is not a file"),
        (["broken.onnx", "--input-shape", "3x8x8"], "no ONNX model"),
        (["plain.onnx", "--passport"], "which its passport does not know"),
        (["plain.onnx", "--report", "r.txt"], ".html, .md, .json"),
    ],
)
def test_bad_input_exits_2(arguments, said, plain, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08\x12\xff")
    plain.write_bytes(plain.read_bytes() + b"\x00")  # not the file of the passport any more
    assert main([*arguments, *ALONE]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--batch", "0"], ["--threads", "x"], ["--runtime", "tpu"], ["--duration", "-1"]]
)
def test_misuse_exits_2(option, plain, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(plain), *option])
    assert ended.value.code == 2
    assert "wanted" in capsys.readouterr().err


def test_a_file_of_someone_else_has_no_twin_but_is_measured(tmp_path, capsys):
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"])],
            "foreign",
            [onnx.helper.make_tensor_value_info("x", 1, ["n", 4])],
            [onnx.helper.make_tensor_value_info("y", 1, ["n", 4])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "foreign.onnx")
    found = measured(capsys, tmp_path / "foreign.onnx", "--against", "relu", *QUICK, code=1)
    assert [one["name"] for one in found["series"]] == ["foreign.onnx"]
    assert "no relu twin" in found["failures"][0]["reason"]
    assert found["traffic"] == []
