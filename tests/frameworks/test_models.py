"""timm's and transformers' own models with learned activations, from their checkpoints by the command alone."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from apa_exporters.cli import main

NETS = '''
from functools import partial

import timm
import torch
from apa_deploy.modules import AGLU
from torch.nn.functional import softplus
from transformers import BertConfig, BertForSequenceClassification


class Unit(torch.nn.Module):
    """A user's own, as docs/recipes/own-networks.md has it."""

    def __init__(self, inplace=False):
        super().__init__()
        self.lambda_param = torch.nn.Parameter(torch.rand(1))
        self.kappa_param = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        lam = self.lambda_param.clamp(min=1e-4)
        return x * torch.exp(softplus(self.kappa_param * x - lam.log(), beta=-1.0) / lam)


ours = partial(AGLU, lambda_=0.5, kappa=1.1)


def resnet():
    return timm.create_model("resnet10t", num_classes=5, act_layer=Unit)


def convnext():
    return timm.create_model("convnext_atto", num_classes=5, act_layer=ours, depths=(1, 1, 2, 1))


def vit():
    sizes = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, act_layer=Unit, **sizes)


def bert():
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99)
    model = BertForSequenceClassification(BertConfig(**sizes, num_labels=3))
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = Unit()
    return model
'''
SIDES = {"resnet": 64, "convnext": 64, "vit": 32}
CASES = [
    # factory, how its input is said, activations, names of the outputs
    ("resnet", ["--input-shape", "3x64x64"], 11, ["logits"]),
    ("convnext", ["--input-shape", "3x64x64"], 5, ["logits"]),
    ("vit", ["--input-shape", "3x32x32"], 2, ["logits"]),
    ("bert", ["--input", "input_ids=T:int64", "--input", "attention_mask=T:int64"], 2, ["logits"]),
    ("bert", [], 2, ["logits"]),  # transformers' own dummy_inputs
]


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("nets.py").write_text(NETS)
    namespace = {"__name__": "nets"}
    exec(compile(NETS, "nets.py", "exec"), namespace)
    torch.manual_seed(0)
    return namespace


@pytest.mark.parametrize(("factory", "shape", "count", "names"), CASES)
def test_from_a_checkpoint(factory, shape, count, names, nets, capsys):
    network = nets[factory]().eval()
    torch.save(network.state_dict(), "weights.pth")
    arguments = ["weights.pth", "--model", f"nets:{factory}", *shape, "--format", "onnx-custom"]
    assert main(arguments) == 0, capsys.readouterr().err
    assert f"{count} activations" in capsys.readouterr().out
    session = onnxruntime.InferenceSession("weights.custom.onnx")
    assert [output.name for output in session.get_outputs()] == names
    feed = {one.name: _array(one, factory) for one in session.get_inputs()}
    given = {name: torch.from_numpy(array) for name, array in feed.items()}
    with torch.inference_mode():
        answer = network(**given) if factory == "bert" else network(*given.values())
    answer = getattr(answer, "logits", answer)
    (logits,) = session.run(None, feed)
    np.testing.assert_allclose(logits, answer, rtol=1e-3, atol=1e-4)


def _array(spec, factory):
    shape = [size if isinstance(size, int) else 2 + i for i, size in enumerate(spec.shape)]
    if len(shape) == 4:
        shape[2:] = SIDES[factory], SIDES[factory]
    rng = np.random.default_rng(0)
    if spec.type == "tensor(int64)":
        return rng.integers(0, 2, shape) if "mask" in spec.name else rng.integers(1, 99, shape)
    return rng.normal(size=shape).astype(np.float32)


def test_what_save_pretrained_writes(nets, capsys):
    nets["bert"]().save_pretrained("saved")
    arguments = ["saved/model.safetensors", "--model", "nets:bert", "--input", "input_ids=8:int64"]
    assert main(arguments) == 0, capsys.readouterr().err
