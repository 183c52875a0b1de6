"""Checkpoints as training frameworks write them: each fills the network as its own state dict does."""

import collections
import datetime
import json
import os
import pathlib
import pickle
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


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def evil_metadata():
    pathlib.Path("dcp").mkdir()
    pathlib.Path("dcp/.metadata").write_bytes(pickle.dumps(Evil()))
    return "dcp"


def metadata_that_leads_out():
    distributed.save({"model": STATE}, checkpoint_id="dcp", no_dist=True)
    metadata = pickle.loads(pathlib.Path("dcp/.metadata").read_bytes())
    for info in metadata.storage_data.values():
        info.relative_path = f"../dcp/{info.relative_path}"
    pathlib.Path("dcp/.metadata").write_bytes(pickle.dumps(metadata))
    return "dcp"


def metadata_of_absurd_size():
    distributed.save({"model": STATE}, checkpoint_id="dcp", no_dist=True)
    metadata = pickle.loads(pathlib.Path("dcp/.metadata").read_bytes())
    metadata.state_dict_metadata["model.fc.weight"].size = torch.Size([1 << 40])
    pathlib.Path("dcp/.metadata").write_bytes(pickle.dumps(metadata))
    return "dcp"


def index_that_leads_out():
    shards(("../one.safetensors", "two.safetensors"))
    return "model.safetensors.index.json"


def link_that_leads_out():
    shards()
    pathlib.Path("inner").mkdir()
    for name in ("two.safetensors", "model.safetensors.index.json"):
        pathlib.Path(name).rename(f"inner/{name}")
    pathlib.Path("inner/one.safetensors").symlink_to("../one.safetensors")
    return "inner"


def empty_tensors():
    torch.save({"module": {key: torch.empty(0) for key in STATE}, "ds_version": "0.16"}, "model.pt")
    return "model.pt"


def harmful_name():
    torch.save({"model": STATE, "when": datetime.datetime(2025, 1, 1), "do": Evil()}, "model.pt")
    return "model.pt"


TWO = [
    {"student": STATE, "teacher": AVERAGE},
    {"model": STATE, "net": AVERAGE},
    {"state_dict": {**before("student."), **before("teacher.", AVERAGE)}},
]


@pytest.mark.parametrize("content", TWO)
def test_two_networks(content):
    """Which is meant cannot be told, whatever their keys are called."""
    torch.save(content, "model.pt")
    with pytest.raises(InputError, match=r"under (student|net)\. and, others, under (teacher|model)\."):
        apa_deploy.load("model.pt", model=FACTORY)


def scripted():
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), "model.pt")
    return "model.pt"


def program():
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(3, 2),)), "model.pt2")
    return "model.pt2"


def with_value(key, value):
    torch.save({**STATE, key: value}, "model.pt")
    return "model.pt"


def quantised():
    return with_value("fc.weight", torch.quantize_per_tensor(STATE["fc.weight"], 0.1, 0, torch.qint8))


def sparse():
    return with_value("fc.weight", STATE["fc.weight"].to_sparse())


def meta():
    return with_value("fc.weight", STATE["fc.weight"].to("meta"))


def bitsandbytes():
    return with_value("fc.weight.quant_map", torch.ones(16))


def gptq():
    return with_value("fc.qweight", torch.ones(16, dtype=torch.int32))


def adapters():
    torch.save({"base.fc.lora_A.weight": torch.ones(2, 2), "base.fc.lora_B.weight": torch.ones(2, 2)}, "model.pt")
    return "model.pt"


def several_in_a_folder():
    pathlib.Path("hub").mkdir()
    for name in ("a", "b"):
        save_file(dict(STATE), f"hub/{name}.safetensors")
    return "hub"


def empty_folder():
    pathlib.Path("hub").mkdir()
    return "hub"


def a_key_too_many():
    torch.save({**STATE, "extra.weight": torch.ones(4)}, "model.pt")
    return "model.pt"


REFUSED = [
    (scripted, "TorchScript.*--trust-pickle"), (program, "a program of torch.export.*--trust-pickle"),
    (quantised, "quantized.*float network's"), (sparse, "to_dense"), (meta, "no numbers"),
    (bitsandbytes, "dequantize"), (gptq, "GPTQ"), (adapters, "merge_and_unload"),
    (several_in_a_folder, "no index of them.*Give one of the files"), (empty_folder, "no weights in it"),
    (a_key_too_many, "Check that the factory makes the network"),
    (evil_metadata, "asks for posix.system"), (metadata_that_leads_out, "leads out"),
    (metadata_of_absurd_size, "larger than all files"), (index_that_leads_out, "leads out"),
    (link_that_leads_out, "leads out"), (empty_tensors, "zero_to_fp32.py"), (harmful_name, "posix.system"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=lambda v: getattr(v, "__name__", ""))
def test_refused(make, words):
    with pytest.raises(InputError, match=words):
        apa_deploy.load(make(), model=FACTORY)
    assert not pathlib.Path("executed").exists()


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
