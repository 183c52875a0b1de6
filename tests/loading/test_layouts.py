"""Checkpoints as training frameworks write them: each fills the network as its own state dict does."""

import collections
import datetime
import json
import pathlib
import types

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as distributed
from safetensors.torch import save_file

import apa_deploy
from apa_deploy.errors import InputError
from tests.networks import tiny_net

FACTORY = "tests.networks:tiny_net"
NET = tiny_net(seed=1)
STATE = NET.state_dict()
AVERAGE = {key: value + 1 if value.is_floating_point() else value for key, value in STATE.items()}


def before(prefix, state=STATE):
    return {prefix + key: value for key, value in state.items()}


def inside(place, wrapper, state=STATE):
    return {key.replace(place, f"{place}{wrapper}."): value for key, value in state.items()}


def normed(register, name="conv2"):
    net = tiny_net(seed=1)
    register(getattr(net, name))
    return net.state_dict()


STORED = {
    "paths, dates and defaults": {
        "model": STATE, "path": pathlib.PosixPath("/a"), "when": datetime.datetime(2025, 1, 1),
        "log": collections.defaultdict(list, a=[1]), "args": types.SimpleNamespace(lr=1),
        "score": np.float64(0.5), "history": np.arange(3.0), "name": np.str_("run"), "torch": torch.__version__,
    },
    "lightning": {"state_dict": {**before("model."), "criterion.weight": torch.ones(5)}, "epoch": 1, "callbacks": {
        "ModelCheckpoint{'monitor': 'x'}": {"best_model_score": torch.tensor(0.7)}}},
    "lightning, the network itself": {"state_dict": {**STATE, "criterion.weight": torch.ones(5)}},
    "lightning, compiled": {"state_dict": before("net._orig_mod.")},
    "tutorial": {"epoch": 5, "model_state_dict": STATE, "optimizer_state_dict": {"state": {}}},
    "net": {"net": STATE, "acc": 91.2},
    "a name of its own": {"my_network": STATE, "epoch": 3},
    "two networks": {"generator": STATE, "discriminator": {"x": torch.ones(2)}},
    "deepspeed": {"module": before("module."), "ds_version": "0.16", "optimizer": None},
    "arrays": {"model": {key: value.numpy() for key, value in STATE.items()}, "__author__": "x"},
    "extra states": {"model": {**STATE, "bn1._extra_state": {"a": 1.0}, "_extra_state": None}},
    "extra states that are tensors": {"module": {**STATE, "bn1._extra_state": torch.zeros(0)}},
    "FSDP": before("_fsdp_wrapped_module."),
    "compiled in part": inside("se.", "_orig_mod"),
    "activation checkpoints": inside("act1.", "_checkpoint_wrapped_module"),
    "deep": {"state_dict": before("algorithm.student.network.")},
    "within another's": {"epoch": 3, "model": {"state_dict": before("module.")}},
    "twice the same": {"model": STATE, "net": STATE},
    "in a list": [STATE, {"optimizer": 1}],
    "average within": {"state_dict": {**before("model."), **before("model_ema.", AVERAGE)}},
    "weight norm": normed(torch.nn.utils.parametrizations.weight_norm),
    "weight norm by a hook": normed(torch.nn.utils.weight_norm),
}  # fmt: skip


def outputs(path, **options):
    model = apa_deploy.load(path, model=FACTORY, input_shape=(3, 16, 16), **options)
    with torch.no_grad():
        return model.module(torch.ones(1, 3, 16, 16))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", STORED)
def test_stored(name):
    torch.save(STORED[name], "model.ckpt")
    assert torch.allclose(outputs("model.ckpt"), NET(torch.ones(1, 3, 16, 16)), atol=1e-6)


@pytest.mark.parametrize(
    "content",
    [{"state_dict": STATE, "state_dict_ema": AVERAGE}, {"model": STATE, "ema": AVERAGE},
     {"model": STATE, "ema": {"decay": 0.9, "shadow": AVERAGE}}, STORED["average within"]],
)  # fmt: skip
def test_averages(content):
    torch.save(content, "model.pth")
    wanted = tiny_net()
    wanted.load_state_dict(AVERAGE)
    assert torch.allclose(outputs("model.pth", weights="ema"), wanted(torch.ones(1, 3, 16, 16)), atol=1e-5)


LIGHTNING = {
    "a callback": {
        "state_dict": before("model."),
        "callbacks": {"EMA": {"ema_weights": before("model.", AVERAGE)}},
    },
    "SWA": {"state_dict": STATE, "callbacks": {"StochasticWeightAveraging": {"average_model_state": AVERAGE}}},
    "WeightAveraging": {"state_dict": AVERAGE, "current_model_state": STATE, "averaging_state": {"n": 3}},
}


@pytest.mark.parametrize("name", LIGHTNING)
def test_averages_of_lightning(name):
    torch.save(LIGHTNING[name], "model.ckpt")
    wanted = tiny_net()
    wanted.load_state_dict(AVERAGE)
    x = torch.ones(1, 3, 16, 16)
    assert torch.equal(outputs("model.ckpt"), NET(x))
    assert torch.equal(outputs("model.ckpt", weights="ema"), wanted(x))
    assert "--weights ema" in str(apa_deploy.load("model.ckpt", model=FACTORY, input_shape=(3, 16, 16)).metadata)


def net_with(register):
    net = tiny_net()
    register(net.conv2)
    return net


NORMS = {"new": torch.nn.utils.parametrizations.weight_norm, "old": torch.nn.utils.weight_norm}
new_norm, old_norm = (lambda: net_with(NORMS["new"])), (lambda: net_with(NORMS["old"]))


@pytest.mark.parametrize("stored", ["plain", *NORMS])
@pytest.mark.parametrize("wanted", ["new_norm", "old_norm"])
def test_weight_norm_of_another_spelling(stored, wanted):
    torch.save(STATE if stored == "plain" else normed(NORMS[stored]), "model.pth")
    network = apa_deploy.load("model.pth", model=f"tests.loading.test_layouts:{wanted}", input_shape=(3, 16, 16))
    x = torch.ones(1, 3, 16, 16)
    assert torch.allclose(network.module(x), NET(x), atol=1e-6)


def test_counters_that_were_averaged():
    torch.save({key: value.float() for key, value in STATE.items()}, "model.pth")
    assert torch.equal(outputs("model.pth"), NET(torch.ones(1, 3, 16, 16)))


def nested_example():
    return {"x": [torch.ones(2, 3, 16, 16)]}


def test_an_example_of_containers_is_refused():
    torch.save(STATE, "model.pth")
    with pytest.raises(InputError, match=r"x is a list.*\.pt2"):
        apa_deploy.load("model.pth", model=FACTORY, example="tests.loading.test_layouts:nested_example")


def test_what_is_left_beside_is_said():
    torch.save(STORED["lightning"], "model.ckpt")
    assert "criterion.weight" in str(apa_deploy.load("model.ckpt", model=FACTORY).metadata.notices)


def test_spectral_norm():
    net = tiny_net()
    torch.nn.utils.parametrizations.spectral_norm(net.conv2).eval()
    torch.save(net.state_dict(), "model.pth")
    assert torch.allclose(outputs("model.pth"), net.eval()(torch.ones(1, 3, 16, 16)), atol=1e-5)


def compiled_net():
    return torch.compile(tiny_net())


@pytest.mark.parametrize("state", [STATE, before("_orig_mod.")])
def test_a_factory_of_a_compiled_network(state):
    torch.save(state, "model.pth")
    module = apa_deploy.load("model.pth", model="tests.loading.test_layouts:compiled_net").module
    assert type(module).__name__ == "TinyNet"


def scripted_in_part():
    net = tiny_net()
    net.act1 = torch.jit.script(net.act1)
    return net


def test_a_factory_of_a_network_that_is_scripted_in_part():
    torch.save(STATE, "model.pth")
    factory = "tests.loading.test_layouts:scripted_in_part"
    network = apa_deploy.load("model.pth", model=factory, input_shape=(3, 16, 16))
    assert {site.kind for site in network.trace().sites} == {"AGLU", "APA"} and len(network.trace().sites) == 3
    x = torch.ones(1, 3, 16, 16)
    assert torch.equal(network.module(x), NET(x))


def test_a_folder_of_distributed_checkpoint():
    distributed.save({"model": STATE, "optim": {"lr": 0.1}, "epoch": 3}, checkpoint_id="dcp", no_dist=True)
    assert torch.equal(outputs("dcp"), NET(torch.ones(1, 3, 16, 16)))


def shards(names=("one.safetensors", "two.safetensors")):
    files = {names[0]: list(STATE)[:5], names[1]: list(STATE)[5:]}
    for name, keys in files.items():
        save_file({key: STATE[key] for key in keys}, pathlib.Path(name).name)
    index = {"weight_map": {key: name for name, keys in files.items() for key in keys}}
    pathlib.Path("model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "content",
    [{"model": STATE, "model_ema": AVERAGE}, {"model": STATE, "ema": {"shadow": AVERAGE}}],
    ids=["key", "shadow"],
)
def test_averages_in_a_folder(content):
    distributed.save(content, checkpoint_id="dcp", no_dist=True)
    wanted = tiny_net()
    wanted.load_state_dict(AVERAGE)
    assert torch.equal(outputs("dcp"), NET(torch.ones(1, 3, 16, 16)))
    assert torch.equal(outputs("dcp", weights="ema"), wanted(torch.ones(1, 3, 16, 16)))
    assert "averaged" in str(apa_deploy.load("dcp", model=FACTORY, input_shape=(3, 16, 16)).metadata.notices)


def test_no_average_is_made_up():
    distributed.save({"model": STATE}, checkpoint_id="dcp", no_dist=True)
    shards()
    save_file(dict(STATE), "whole.safetensors")
    for path in ("dcp", "model.safetensors.index.json", "whole.safetensors"):
        with pytest.raises(InputError, match="averaged"):
            outputs(path, weights="ema")


@pytest.mark.parametrize("path", ["model.safetensors.index.json", "."])
def test_shards(path):
    shards()
    assert torch.equal(outputs(pathlib.Path(path).resolve()), NET(torch.ones(1, 3, 16, 16)))


HUB = {  # files of a folder -> the one that is read
    ("model.safetensors", "pytorch_model.bin", "training_args.bin"): "model.safetensors",
    ("pytorch_model.bin", "optimizer.bin"): "pytorch_model.bin",
    ("weights.safetensors",): "weights.safetensors",
}


@pytest.mark.parametrize("names", HUB, ids=HUB.values())
def test_a_folder_of_a_hub(names):
    folder = pathlib.Path("hub")
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name in names:
        state = STATE if name == HUB[names] else AVERAGE
        save_file(dict(state), folder / name) if name.endswith("s") else torch.save(state, folder / name)
    assert torch.equal(outputs("hub"), NET(torch.ones(1, 3, 16, 16)))


WRAPPED = [
    lambda state: {"state_dict": {**before("model.", state), "criterion.weight": torch.ones(2)}},
    lambda state: inside("layer1.", "_orig_mod", state),
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_upstreams_networks_too(wrap, cifar_checkpoint):
    state = apa_deploy.load(cifar_checkpoint).module.state_dict()
    torch.save(wrap(state), "model.ckpt")
    again = apa_deploy.load("model.ckpt")
    torch.save({"model": state, "net": {key: value + 1 for key, value in state.items()}}, "two.pt")
    with pytest.raises(InputError, match=r"under net\. and, others"):
        apa_deploy.load("two.pt")
    assert again.metadata.architecture == "se_resnet32"
    assert all(torch.equal(value, state[key]) for key, value in again.module.state_dict().items())
