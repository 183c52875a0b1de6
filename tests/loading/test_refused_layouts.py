"""Checkpoints that are refused by name: harmful ones, ambiguous ones, and those that hold no float weights."""

import datetime
import os
import pathlib
import pickle

import pytest
import torch
import torch.distributed.checkpoint as distributed
from safetensors.torch import save_file

import apa_deploy
from apa_deploy.errors import InputError
from tests.loading.test_layouts import AVERAGE, FACTORY, STATE, before, shards


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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
