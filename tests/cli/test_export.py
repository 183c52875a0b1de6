"""`apa-export`: exit codes, messages, and what is left on disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from apa_exporters.cli import main

from apa_deploy.parity import operator_gate


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("format", ["onnx", "onnx-custom"])
def test_one_command(format, cifar_checkpoint, tmp_path, capsys):
    assert main([str(cifar_checkpoint), "--format", format, "-o", "out.onnx"]) == 0
    said = capsys.readouterr()
    assert "verified against the float64 module" in said.out
    assert "Tracing the network" in said.err
    assert (tmp_path / "out.onnx.passport.json").is_file()


def test_default_name_and_json(cifar_checkpoint, tmp_path, capsys):
    assert main([str(cifar_checkpoint), "--json", "--no-verify"]) == 0
    passport = json.loads(capsys.readouterr().out)
    assert (tmp_path / "model.onnx").is_file()
    assert passport["outputs"][0]["name"] == "model.onnx"
    assert passport["schema_version"] == 1
    assert (passport["parity"]["verdict"], passport["parity"]["reason"]) == ("not judged", "--no-verify")
    assert {"path", "kind", "floor", "lambda", "kappa", "form"} == set(passport["activations"][0])


def test_failed_gate_exits_1_and_writes_nothing(cifar_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(operator_gate, "operator_limit", lambda _: 1e-12)  # what no float32 activation reaches
    assert main([str(cifar_checkpoint), "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["passed"] is False
    assert "limit 1e-12" in said.err.replace("1.0e-12", "1e-12")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


MISUSE = [
    ("no such file", ["none.pth"], "no such file"),
    ("another suffix", ["model.pth", "-o", "out.engine"], ".onnx"),
    ("a shape of two", ["model.pth", "--input-shape", "32x32"], "the size of an image"),
    ("a shape that does not fit", ["model.pth", "--input-shape", "1x32x32"], "--input-shape"),
    ("not square", ["model.pth", "--input-shape", "3x40x32"], "height = width"),
    ("a named shape", ["model.pth", "--input-shape", "ids=16:int64"], "--input NAME=SHAPE[:DTYPE]"),
    ("an unknown format", ["model.pth", "--format", "coreml"], "wanted one of onnx, "),
    ("a folder that does not exist", ["model.pth", "-o", "no/out.onnx"], "create the folder"),
    ("opset 17", ["model.pth", "--opset", "17"], "18 to 23"),
]


@pytest.mark.parametrize(("arguments", "saw"), [c[1:] for c in MISUSE], ids=[c[0] for c in MISUSE])
def test_misuse_exits_2_with_one_message(arguments, saw, cifar_checkpoint, tmp_path, capsys):
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse's own
        code = stop.code
    said = capsys.readouterr().err
    assert code == 2
    assert saw in said
    assert "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


def test_debug_shows_the_traceback(tmp_path, capsys):
    torch.save({"epoch": 1}, "model.pth")
    assert main(["model.pth", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_installed_as_a_program():
    program = Path(sys.executable).with_name("apa-export")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("apa-export ")
