"""apa_deploy.loading.checkpoint and load: layouts, hints, and files that are refused without being run."""

import argparse
import os
import sys
import types
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

import apa_deploy
from apa_deploy.errors import InputError
from apa_deploy.loading.checkpoint import CheckpointError, read_checkpoint
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.networks import RawActivation, Silent, TinyNet, tiny_net

STATE = OrderedDict(weight=torch.ones(2, 2), bias=torch.zeros(2))


def saved(tmp_path, content, name="model.pth"):
    path = tmp_path / name
    torch.save(content, path)
    return path


LAYOUTS = [
    ("bare", STATE, "model"),
    ("upstream", {"model": STATE, "args": argparse.Namespace(model="x"), "optimizer": {"state": {}}}, "model"),
    ("distributed", {"model": {f"module.{k}": v for k, v in STATE.items()}}, "model"),
    ("compiled and distributed", {f"module._orig_mod.{k}": v for k, v in STATE.items()}, "model"),
    ("averaged", {
        "model": {k: v + 1 for k, v in STATE.items()},
        "model_ema": {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in STATE.items()}}}, "ema"),
    ("mmengine", {"meta": {"epoch": 1}, "state_dict": STATE}, "model"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "weights"), [c[1:] for c in LAYOUTS], ids=[c[0] for c in LAYOUTS])
def test_layouts(content, weights, tmp_path):
    state = read_checkpoint(saved(tmp_path, content), weights).state
    assert list(state) == list(STATE)
    assert all(torch.equal(state[k], STATE[k]) for k in STATE)


def test_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(dict(STATE), path, metadata={"classif_norm": "cosine"})
    checkpoint = read_checkpoint(path)
    assert sorted(checkpoint.state) == sorted(STATE)
    assert checkpoint.arguments == {"classif_norm": "cosine"}


def test_unused_average_is_mentioned(tmp_path):
    notices = read_checkpoint(saved(tmp_path, {"model": STATE, "model_ema": STATE})).notices
    assert "--weights ema" in notices[0]


def test_log_buffers_of_mmengine_are_inert(tmp_path, monkeypatch):
    """A message hub pickles its buffers with numpy arrays and bound functions; none of it comes to life."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    exec(
        "import numpy as np\n"
        "class HistoryBuffer:\n"
        "    def __init__(self):\n"
        "        self._log_history = np.arange(3.0)\n"
        "        self._count = np.float64(2)\n"
        "        self._statistics = {'mean': HistoryBuffer.mean}\n"
        "    def mean(self): return self._log_history.mean()\n",
        module.__dict__,
    )
    module.HistoryBuffer.__module__ = module.__name__
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {"meta": {}, "state_dict": STATE, "message_hub": {"log_scalars": {"loss": module.HistoryBuffer()}}}
    path = saved(tmp_path, content)
    monkeypatch.delitem(sys.modules, module.__name__)
    assert list(read_checkpoint(path).state) == list(STATE)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


BAD = [
    ("text", lambda p: p.write_text("weights\n" * 9), "not readable"),
    ("empty", lambda p: p.write_bytes(b""), "empty"),
    ("a list", lambda p: torch.save([1, 2], p), "a list"),
    ("no weights", lambda p: torch.save({"epoch": 3}, p), "no weights among"),
    ("an average alone", lambda p: torch.save({"ema": STATE}, p), "Pass --weights ema"),
    ("no average", lambda p: torch.save({"model": STATE}, p), "averaged"),
    ("NaN", lambda p: torch.save({"w": torch.tensor([float("nan")])}, p), "w holds NaN"),
    ("code in the arguments", lambda p: torch.save({"model": STATE, "args": Evil()}, p), "posix.system"),
    ("a pickled module", lambda p: torch.save(TinyNet(), p), "tests.networks.TinyNet"),
]


@pytest.mark.parametrize(("write", "saw"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_refuses(write, saw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    write(path)
    with pytest.raises(CheckpointError, match=saw) as caught:
        read_checkpoint(path, "ema" if saw == "averaged" else "model")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "executed").exists()


def test_refused_names_are_data(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(saved(tmp_path, {"model": STATE, "args": Evil()}))
    assert caught.value.refused == ("posix.system",)


def test_own_network(tmp_path):
    path = saved(tmp_path, tiny_net().state_dict())
    model = apa_deploy.load(path, model="tests.networks:TinyNet", input_shape=(3, 16, 16))
    assert isinstance(model.module, TinyNet)
    assert not model.module.training
    assert model.input_shape == (3, 16, 16)


def test_a_network_without_outputs_is_refused():
    network = TorchNetwork(Silent().eval(), image_signature((3, 8, 8)), Metadata("silent"))
    with pytest.raises(InputError, match="silent returns no tensor, but a NoneType"):
        network.trace()


HINTS = [
    ("an unknown factory", {"model": "tests.networks:Nothing"}, "tests.networks:Nothing"),
    ("a factory that raises", {"model": "tests.networks:raises"}, "it raised RuntimeError: no kernel image"),
    ("a script for a factory", {"model": "tests.networks:ends"}, "it raised SystemExit: usage"),
    ("a factory of something else", {"model": "builtins:dict"}, "torch.nn.Module"),
    ("another architecture", {"arch": "se_resnet50"}, "keys of se_resnet32"),
    ("an unknown head", {"classif_norm": "arcface"}, "--classif-norm arcface"),
    ("a head that contradicts", {"classif_norm": "lr_cosine"}, "--classif-norm lr_cosine"),
    ("an unknown floor", {"floor": "1"}, "--floor 1"),
    ("unknown weights", {"weights": "best"}, "--weights best"),
    ("input that is not square", {"input_shape": (3, 40, 32)}, "height = width"),
]


@pytest.mark.parametrize(("hints", "saw"), [c[1:] for c in HINTS], ids=[c[0] for c in HINTS])
def test_hints_are_checked(hints, saw, cifar_checkpoint):
    with pytest.raises(InputError, match=saw):
        apa_deploy.load(cifar_checkpoint, **hints)


def test_model_says_what_it_is(cifar_checkpoint):
    model = apa_deploy.load(cifar_checkpoint, arch="se_resnet32")
    assert model.input_shape == (3, 32, 32)
    assert (model.metadata.architecture, model.metadata.output_names) == ("se_resnet32", ("logits",))
    assert next(model.module.parameters()).dtype == torch.float32
    assert model.metadata.source == "model.pth"
    assert len(model.metadata.sha256) == 64


class AGLU(RawActivation):
    """As Ultralytics' class: the gate."""

    def __init__(self):
        super().__init__(0.6, 1.1, kind="APA", floor="clamp 1e-4")


def network_of_gates():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), AGLU(), torch.nn.Linear(4, 4), AGLU())


def test_a_class_aglu_that_is_the_gate_is_said(tmp_path):
    path = saved(tmp_path, network_of_gates().state_dict())
    network = apa_deploy.load(path, model=f"{__name__}:network_of_gates", input_shape=(4,))
    assert "1 and 1 more: a class AGLU that is the gate alone" in str(network.metadata.notices)
    path = saved(tmp_path, tiny_net().state_dict())
    own = apa_deploy.load(path, model="tests.networks:TinyNet", input_shape=(3, 16, 16))
    assert "the gate alone" not in str(own.metadata.notices)
