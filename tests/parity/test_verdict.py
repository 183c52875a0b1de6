"""What cannot be judged is not passed: references that prove nothing, limits with a ceiling."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from apa_exporters.cli import main
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.randomness import random_nodes
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.parity.limits import CEILING, least_cosine, model_limit
from apa_deploy.parity.model_gate import has_evidence
from apa_deploy.parity.verify import verify
from apa_deploy.records.parity import ParityError
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net

SHAPE = (3, 16, 16)


class Wrapped(nn.Module):
    """A tiny network and something behind it. `stuck`: a part that stays in training mode."""

    def __init__(self, behind, stuck=None):
        super().__init__()
        self.net, self.behind, self.stuck = tiny_net(), behind, stuck

    def train(self, mode=True):
        super().train(mode)
        if self.stuck is not None:
            self.stuck.training = True
        return self

    def forward(self, x):
        y = self.net(x)
        return self.behind(y if self.stuck is None else self.stuck(y))


def dropped(y):
    return F.dropout(y, 0.5)


def seldom(y):
    return y * (torch.rand(len(y), 1) > 0.1)


def unused(y):
    return y + 0 * torch.rand(())


def dead(y):
    return 0 * y


def ignoring(y):
    return 0 * y + torch.arange(5.0)


def amplified(y):
    """Cancellation: float32 keeps no digit of it."""
    return (y + 1e8) - 1e8


VERDICTS = [
    # what, the network, the verdict, what the reason names
    ("sound", tiny_net, "passed", ""),
    ("numbers drawn and not used", lambda: Wrapped(unused), "passed", ""),
    ("dropout called in eval mode", lambda: Wrapped(dropped), "cannot be judged", "not deterministic: Wrapped"),
    ("a path that is seldom dropped", lambda: Wrapped(seldom), "cannot be judged", "not deterministic: Wrapped"),
    ("dropout stuck in training", lambda: Wrapped(nn.Identity(), nn.Dropout(0.3)), "cannot be judged", ": stuck"),
    ("batch norm stuck", lambda: Wrapped(nn.Identity(), nn.BatchNorm1d(5)), "cannot be judged", ": stuck"),
    (
        "batch norm without statistics",
        lambda: Wrapped(nn.BatchNorm1d(5, track_running_stats=False)),
        "cannot be judged",
        ": behind",
    ),
    ("zeros", lambda: Wrapped(dead), "cannot be judged", "the same to every input (logits)"),
    ("the same for every input", lambda: Wrapped(ignoring), "cannot be judged", "the same to every input"),
    ("float32 far off", lambda: Wrapped(amplified), "cannot be judged", "own float32 is"),
]


@pytest.mark.parametrize(("make", "wanted", "reason"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS])
def test_verdict(make, wanted, reason, tmp_path):
    torch.manual_seed(0)
    network = TorchNetwork(make().eval(), image_signature(SHAPE), Metadata("tiny"))
    sound = TorchNetwork(tiny_net(), image_signature(SHAPE), Metadata("tiny"))
    traced = (network if wanted == "passed" else sound).trace()
    onnx.save(with_functions(traced.proto), tmp_path / "m.onnx")
    report = verify(
        tmp_path / "m.onnx", network, traced.sites if wanted == "passed" else [], seeded_feeds(network.signature)
    )
    assert (report.verdict, report.passed) == (wanted, wanted == "passed")
    assert reason in report.reason and bool(reason) == bool(report.reason)
    if reason:
        assert str(ParityError(report)).startswith(f"cannot be judged: {report.reason}")


def test_nothing_is_written_and_the_exit_code_is_that_of_a_gate(tmp_path, monkeypatch, capsys):
    (tmp_path / "own.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = torch.nn.Linear(8, 4)\n"
        "    def forward(self, x):\n        return torch.nn.functional.dropout(self.fc(x.flatten(1)), 0.5)\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Linear(8, 4).state_dict(), "bare.pth")
    torch.save({f"fc.{k}": v for k, v in nn.Linear(8, 4).state_dict().items()}, "own.pth")
    given = ["own.pth", "--model", "own:Net", "--input-shape", "2x2x2", "-o", "o.onnx"]
    assert main(given) == 1
    assert "cannot be judged: the network is not deterministic: Net" in capsys.readouterr().err
    assert not list(tmp_path.glob("o.onnx*"))
    assert main([*given, "--no-verify"]) == 0
    assert json.loads((tmp_path / "o.onnx.passport.json").read_text())["parity"]["verdict"] == "not judged"


def _node(op, **attributes):
    inputs = {"Dropout": ["x", "", "yes"], "RandomNormal": []}.get(op, ["x"])
    inputs = ["x", "w", "w", "w", "w"] if op == "BatchNormalization" else inputs
    return helper.make_node(op, inputs, ["y"], name="n", **attributes)


NODES = [
    (_node("Dropout"), True),
    (helper.make_node("Dropout", ["x"], ["y"], name="n"), False),
    (helper.make_node("Dropout", ["x", "", "no"], ["y"], name="n"), False),
    (helper.make_node("Dropout", ["x"], ["y"], name="n", is_test=0), True),
    (_node("BatchNormalization", training_mode=1), True),
    (_node("BatchNormalization"), False),
    (_node("RandomNormal", shape=[1]), True),
    (_node("Bernoulli"), True),
    (_node("Relu"), False),
]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("node", "random"), NODES)
def test_random_nodes_are_found(node, random, nested):
    flags = [helper.make_tensor(name, TensorProto.BOOL, [], [value]) for name, value in (("yes", 1), ("no", 0))]
    inner = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("y", 1, None)])
    nodes = [helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)] if nested else [node]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], flags))
    assert bool(random_nodes(model)) is random


CEILINGS = [("fp32", 1e-3), ("fp16", 2e-2), ("bf16", 1e-1)]


@pytest.mark.parametrize(("precision", "ceiling"), CEILINGS)
def test_no_limit_exceeds_its_ceiling(precision, ceiling):
    assert CEILING[precision] == ceiling == model_limit(6.1, precision) > model_limit(1e-9, precision)
    assert 0.99 < least_cosine(precision) <= 0.999


EVIDENCE = [
    ("zeros", [np.zeros((2, 3)), np.zeros((2, 3))], False),
    ("empty", [np.zeros((0, 4)), np.zeros((0, 4))], False),
    ("one number", [np.full((2, 3), 7.0)], False),
    ("the same row always", [np.tile(np.arange(3.0), (2, 1))] * 3, False),
    ("another row", [np.arange(6.0).reshape(2, 3)], True),
    ("another feed", [np.arange(3.0)[None], 1 + np.arange(3.0)[None]], True),
    ("another number of rows", [np.zeros((1, 3)), np.ones((2, 3))], True),
    ("one sample", [np.arange(3.0)[None]], True),
    ("scalars", [np.float64(1), np.float64(2)], True),
    ("one scalar always", [np.float64(1), np.float64(1)], False),
]


@pytest.mark.parametrize(("references", "wanted"), [e[1:] for e in EVIDENCE], ids=[e[0] for e in EVIDENCE])
def test_evidence(references, wanted):
    assert has_evidence([np.asarray(reference) for reference in references]) is wanted
