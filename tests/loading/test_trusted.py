"""`--trust-pickle`: modules found by type in files that hold code, and what is said about it."""

import sys
import types

import numpy as np
import pytest
import torch
from apa_exporters.onnx.export import OnnxOptions, export_onnx

import apa_deploy
from apa_deploy.errors import MissingError
from apa_deploy.loading.checkpoint import CheckpointError
from apa_deploy.loading.trusted import NOTICE
from apa_deploy.network import TRUTH
from apa_deploy.records.parity import ParityError
from tests.networks import TinyNet, tiny_net

CONTENTS = [
    ("a module", lambda net: net),
    ("under a key", lambda net: {"epoch": 3, "net": net}),
    ("Ultralytics' layout, in half", lambda net: {"model": net.half(), "ema": None, "train_args": {}}),
]


@pytest.mark.parametrize("content", [c[1] for c in CONTENTS], ids=[c[0] for c in CONTENTS])
def test_module_is_found_by_type(content, tmp_path):
    torch.save(content(tiny_net()), tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="--trust-pickle"):
        apa_deploy.load(tmp_path / "m.pt")
    model = apa_deploy.load(tmp_path / "m.pt", trust_pickle=True)
    assert isinstance(model.module, TinyNet)
    assert next(model.module.parameters()).dtype == torch.float32
    assert NOTICE in model.metadata.notices


def test_average_is_found_by_its_key(tmp_path):
    torch.save({"model": tiny_net(0), "ema": tiny_net(1)}, tmp_path / "m.pt")
    model = apa_deploy.load(tmp_path / "m.pt", weights="ema", trust_pickle=True)
    assert torch.equal(model.module.fc.weight, tiny_net(1).fc.weight)


def test_weights_in_a_file_with_code_are_found_as_well(tmp_path):
    torch.save({"model": tiny_net().state_dict(), "config": types.SimpleNamespace(a=1)}, tmp_path / "m.pth")
    model = apa_deploy.load(tmp_path / "m.pth", model="tests.networks:TinyNet", trust_pickle=True)
    assert isinstance(model.module, TinyNet)


@pytest.mark.parametrize("ours", [False, True], ids=["their modules", "our operator"])
def test_exported_program(ours, tmp_path):
    """It has no modules left: its activations are recognised in its graph, and the program is the truth."""
    net = tiny_net()
    if ours:
        apa_deploy.replace_activations(net)
    dims = ({0: torch.export.Dim("batch"), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    program = torch.export.export(net, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=dims)
    torch.export.save(program, tmp_path / "m.pt2")
    model = apa_deploy.load(tmp_path / "m.pt2", trust_pickle=True, input_shape=(3, 16, 16))
    assert NOTICE in model.metadata.notices
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.module(x), net(x))
    passports = [
        export_onnx(model, tmp_path / "m.onnx", OnnxOptions(force=True, **options))
        for options in ({}, {"format": "onnx-custom", "precision": "fp16"})
    ]
    for passport in passports:
        assert passport.parity.passed
        assert [(a.path, a.kind) for a in passport.activations] == [
            ("act1", "AGLU"), ("se.gate", "APA"), ("act2", "AGLU"),
        ]  # fmt: skip


def test_outputs_of_a_program_have_the_names_of_its_answer(tmp_path):
    class Two(torch.nn.Module):
        def forward(self, x):
            return {"mask": x.exp(), "aux": [None, x.mean(1), x]}

    torch.export.save(torch.export.export(Two(), (torch.zeros(2, 3),)), tmp_path / "m.pt2")
    model = apa_deploy.load(tmp_path / "m.pt2", trust_pickle=True)
    assert model.output_names == ("mask", "aux.1", "aux.2")
    found = model.outputs({model.signature.first.name: np.array([[0, 1, 2], [3, 4, 5]], np.float32)}, TRUTH)
    np.testing.assert_allclose(found["aux.1"], [1, 4])


def test_a_program_is_judged_against_itself(tmp_path, monkeypatch):
    """A fault between the program and its graph, such as one of torch.onnx, is seen."""
    program = torch.export.export(tiny_net(), (torch.zeros(2, 3, 16, 16),))
    torch.export.save(program, tmp_path / "m.pt2")
    model = apa_deploy.load(tmp_path / "m.pt2", trust_pickle=True)
    assert model.input_shape == (3, 16, 16)
    model.program.fc.bias.data += 0.1
    with pytest.raises(ParityError):
        export_onnx(model, tmp_path / "m.onnx", OnnxOptions())


def test_missing_package_exits_3(tmp_path, monkeypatch):
    module = types.ModuleType("somebodys.models")
    module.Net = type("Net", (torch.nn.Module,), {"__module__": "somebodys.models"})
    monkeypatch.setitem(sys.modules, "somebodys", types.ModuleType("somebodys"))
    monkeypatch.setitem(sys.modules, "somebodys.models", module)
    torch.save(module.Net(), tmp_path / "m.pt")
    monkeypatch.undo()
    with pytest.raises(MissingError, match="pip install somebodys"):
        apa_deploy.load(tmp_path / "m.pt", trust_pickle=True)


def test_damaged_file(tmp_path):
    (tmp_path / "m.pt").write_text("weights")
    with pytest.raises(CheckpointError, match="while loading"):
        apa_deploy.load(tmp_path / "m.pt", trust_pickle=True)
