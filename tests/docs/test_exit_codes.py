"""docs/exit-codes.md: real commands end with the codes that it promises, and their messages have three parts."""

import re
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.docs.test_links import ROOT
from tests.networks import tiny_net
from tools.docs.reference import VERBS

PAGE = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
NETWORKS = """
import torch
from tests.networks import tiny_net

class Behind(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = tiny_net()

class Random(Behind):
    def forward(self, x):
        return torch.nn.functional.dropout(self.net(x), 0.5)

class Constant(Behind):
    def forward(self, x):
        return 0 * self.net(x)

class Cancelling(Behind):
    def forward(self, x):
        return (self.net(x) + 1e8) - 1e8
"""
OWN = ("weights.pth", "--input-shape", "3x8x8", "-o", "out.onnx", "--model")
COMMANDS = [
    # what, the command, its exit code, what stands in its message
    ("an export", "apa-export", ("line.onnx", "-o", "out.onnx"), 0, ""),
    ("equal files", "apa-verify", ("line.onnx", "copy.onnx"), 0, ""),
    ("this machine", "apa-doctor", (), 0, ""),
    ("a check fails", "apa-verify", ("line.onnx", "steeper.onnx"), 1, ""),
    ("random numbers", "apa-export", (*OWN, "own:Random"), 1, "cannot be judged: the network is not deterministic"),
    ("the same answer always", "apa-export", (*OWN, "own:Constant"), 1, "the same to every input"),
    ("float32 far off", "apa-export", (*OWN, "own:Cancelling"), 1, "cannot be judged: .*own float32 is"),
    ("not measured", "apa-bench", ("one.onnx", "--batch", "2"), 1, "--batch 1"),
    ("no such option", "apa-verify", ("--colour",), 2, "--help"),
    ("no such file", "apa-export", ("none.pth",), 2, "none.pth"),
    ("no such network", "apa-export", (*OWN, "own:Gone"), 2, "Gone"),
    ("a damaged file", "apa-inspect", ("damaged.onnx",), 2, "damaged.onnx"),
    ("nothing to serve", "apa-serve", ("none",), 2, "none"),
    ("a missing extra", "apa-bench", ("line.onnx", "--report", "r.html"), 3, r"pip install 'apa-deploy\["),
    ("a file that lacks something", "apa-doctor", ("needs.onnx",), 3, ""),
]  # fmt: skip

# y = factor * x; the last takes one sample at a time
FILES = (
    ("line", 2, "", "N"),
    ("copy", 2, "", "N"),
    ("steeper", 3, "", "N"),
    ("needs", 2, "somebodys", "N"),
    ("one", 2, "", 1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    for name, factor, domain, batch in FILES:
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [batch, 4]) for end in "xy"]
        weight = numpy_helper.from_array(np.float32([factor]), "w")
        graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"], domain=domain)], "g", ends[:1],
                                  ends[1:], [weight])  # fmt: skip
        domains = [helper.make_opsetid("", 18), helper.make_opsetid("somebodys", 1)]
        onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), folder / f"{name}.onnx")
    (folder / "damaged.onnx").write_bytes((folder / "line.onnx").read_bytes()[:-40])
    torch.save({f"net.{key}": value for key, value in tiny_net().state_dict().items()}, folder / "weights.pth")
    (folder / "own.py").write_text(NETWORKS)
    return folder


def run(verb, arguments):
    module = __import__(VERBS[verb], fromlist=["main"])
    try:
        return module.main(list(arguments))
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize(("verb", "arguments", "wanted", "message"), [c[1:] for c in COMMANDS],
                         ids=[c[0] for c in COMMANDS])  # fmt: skip
def test_exit_code(verb, arguments, wanted, message, folder, verify_here, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if wanted == 3:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(verb, arguments) == wanted
    printed = capsys.readouterr().err
    assert re.search(message, printed) and "Traceback" not in printed
    if wanted in (2, 3) and message:
        assert re.search(r"error: .*; wanted .*\. \S", printed, re.DOTALL), printed
    if wanted != 0:
        assert not list(folder.glob("out.onnx*"))
    for path in folder.glob("out.onnx*"):
        path.unlink()


def test_the_page_has_these_codes():
    assert {int(code) for code in re.findall(r"^\| (\d) ", PAGE, re.MULTILINE)} == {c[3] for c in COMMANDS}


def test_debug_alone_shows_a_traceback(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert run("apa-export", ("none.pth", "--debug")) == 2
    assert "Traceback" in capsys.readouterr().err
