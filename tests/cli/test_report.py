"""`--report` of every verb: a page that says what was found, also where a gate failed."""

import shutil
from pathlib import Path

import pytest
import torch
from apa_exporters.cli import main as export

from apa_deploy.cli.inspect import main as inspect
from apa_deploy.parity import operator_gate
from apa_deploy.report import read_report
from tests import networks

MODEL = ["tiny.pth", "--model", "networks:TinyNet", "--input-shape", "3x16x16"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(networks.__file__), tmp_path)
    torch.save(networks.tiny_net().state_dict(), tmp_path / "tiny.pth")


def test_export(tmp_path):
    assert export([*MODEL, "--report", "r.json"]) == 0
    found = read_report(tmp_path / "r.json")
    assert found.verdict.status == "passed"
    assert len(found.curves) == len(found.activation_errors) == 3
    assert {limit.name for limit in found.limits} >= {"logits", "activation"}
    assert [one.role for one in found.compared] == ["reference", "exported"]
    assert found.sources[0].name == "tiny.pth"
    assert "--report r.json" in found.commands[0]


def test_a_failed_gate_is_reported_and_nothing_else_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(operator_gate, "operator_limit", lambda _: 1e-12)  # what no float32 activation reaches
    assert export([*MODEL, "--report", "r.json"]) == 1
    found = read_report(tmp_path / "r.json")
    assert found.verdict.status == "failed"
    assert any(error.passed is False for error in found.activation_errors)
    assert not (tmp_path / "tiny.onnx").exists()


def test_export_unverified(tmp_path):
    assert export([*MODEL, "--no-verify", "--report", "r.md"]) == 0
    assert "not verified" in (tmp_path / "r.md").read_text()


def test_inspect(cifar_checkpoint, tmp_path):
    assert inspect([str(cifar_checkpoint), "--report", "r.json"]) == 0
    found = read_report(tmp_path / "r.json")
    assert [figure.value for figure in found.figures[:2]] == ["31", "15"]
    assert len(found.tables[0].rows) == 46


@pytest.mark.parametrize(("verb", "arguments"), [(export, MODEL), (inspect, MODEL[:1])])
def test_a_bad_name_is_refused_first(verb, arguments, tmp_path, capsys):
    assert verb([*arguments, "--report", "r.docx"]) == 2
    assert ".html, .md, .json" in capsys.readouterr().err
    assert not (tmp_path / "tiny.onnx").exists()
