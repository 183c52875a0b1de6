"""`apa-inspect`: the table, the picture, the page, and the files it refuses."""

import json

import onnx
import pytest
from apa_exporters.onnx.export import OnnxOptions, export_onnx

from apa_deploy import load
from apa_deploy.cli.inspect import main
from apa_deploy.inspection import half_errors, inspect_file
from apa_deploy.maths import Parameters
from tests.graph.corpus.spellings import GENERAL, spelled


def records(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return sorted(json.loads(capsys.readouterr().out), key=lambda record: record["path"])


def test_checkpoint(cifar_checkpoint, capsys):
    found = records(capsys, cifar_checkpoint)
    assert len(found) == 46  # 31 units and 15 gates, as upstream builds se_resnet32
    assert {r["kind"] for r in found if "unact" in r["path"]} == {"APA"}
    assert {r["floor"] for r in found if r["kind"] == "AGLU"} == {"relu+1e-8"}
    tiny = [r for r in found if r["lambda"][0] <= 1e-7]
    assert tiny
    assert all(r["form"] == "limit" and r["half_errors"]["fp16 throughout"] is None for r in tiny)


@pytest.mark.parametrize("format", ["onnx", "onnx-custom"])
def test_exported_file_tells_the_same(format, cifar_checkpoint, tmp_path, capsys):
    export_onnx(load(cifar_checkpoint), tmp_path / "m.onnx", OnnxOptions(format=format, verify=False))
    ours, theirs = records(capsys, tmp_path / "m.onnx"), records(capsys, cifar_checkpoint)
    assert [(r["path"], r["kind"], r["form"]) for r in ours] == [(r["path"], r["kind"], r["form"]) for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a["lambda"] == pytest.approx(b["lambda"], rel=1e-7)  # a node stores float32


def test_table_picture_and_page(cifar_checkpoint, tmp_path, capsys):
    png, page = tmp_path / "curves.png", tmp_path / "page.html"
    assert main([str(cifar_checkpoint), "--plot", str(png), "--report", str(page)]) == 0
    assert "46 learned activations" in capsys.readouterr().out
    assert png.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.count("<svg ") == 3  # units, gates, parameters
    assert "layer1.0.unirect1" in text
    assert main([str(cifar_checkpoint), "--plot", str(png)]) == 2
    assert "--force" in capsys.readouterr().err


HALF = [
    # UPSTREAM (e): lambda, error of AGLU in fp16 throughout for kappa 1, z within +-12 (None: NaN)
    (1e-8, None),
    (1e-5, None),
    (1.6e-5, 1.1e-2),
    (1e-4, 2.7e-3),
    (0.5, 5.7e-3),
]


@pytest.mark.parametrize(("lam", "published"), HALF)
def test_predicted_half_errors(lam, published):
    errors = half_errors("AGLU", Parameters((lam,), (1.0,)))
    if published is None:
        assert errors["fp16 throughout"] != errors["fp16 throughout"]
    else:
        # another grid of z and another spelling of the formula: the size, not the digits
        assert published / 4 < errors["fp16 throughout"] < published * 4
    assert errors["fp16 here"] <= 12 * 2.0**-11  # half an ulp of values up to 12
    assert errors["bf16 here"] <= 12 * 2.0**-8


def test_onnx_without_activations_is_empty(tmp_path, capsys):
    x = onnx.helper.make_tensor_value_info("x", 1, [1])
    y = onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "plain.onnx")
    assert inspect_file(tmp_path / "plain.onnx") == []
    assert main([str(tmp_path / "plain.onnx")]) == 0
    assert "0 learned activations" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12\xff"])
def test_broken_onnx(content, tmp_path, capsys):
    (tmp_path / "bad.onnx").write_bytes(content)
    code = main([str(tmp_path / "bad.onnx")])
    said = capsys.readouterr().err
    assert code == 2
    assert "bad.onnx" in said
    assert "Traceback" not in said


def test_somebodys_file(tmp_path, capsys):
    onnx.save(spelled(GENERAL["Pow"], "AGLU", 0.5, 0.9), tmp_path / "theirs.onnx")
    (record,) = records(capsys, tmp_path / "theirs.onnx")
    assert (record["kind"], record["lambda"], record["kappa"]) == ("AGLU", [0.5], [pytest.approx(0.9)])
