"""Networks of any inputs and outputs: said, shown by an example, or told by the module; exported and verified."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from apa_exporters.cli import main
from torch import nn

import apa_deploy
from apa_deploy.errors import InputError
from apa_deploy.loading.module_inputs import lengthen_open_sizes
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.tensors.signature import Signature, parse_input
from tests.networks import RawActivation, TinyNet

HERE = "tests.loading.test_module_inputs"


class Tokens(nn.Module):
    """Ids of 50 words and an optional mask; nested outputs, one of them None."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 8), nn.Embedding(16, 8)
        self.act, self.norm, self.head = RawActivation(0.6, 1.1), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, input_ids, attention_mask=None, labels=None):
        x = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        x = self.norm(self.act(x))
        if attention_mask is not None:
            x = x * attention_mask.unsqueeze(-1)
        return {"logits": self.head(x.mean(1)), "loss": None, "states": (x, {"top": x.argmax(2)})}


class Audio(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv1d(1, 4, 5, 2), RawActivation(0.4, 0.9), nn.Linear(4, 3)

    def forward(self, wave):
        return self.head(self.act(self.conv(wave)).mean(-1))


class LongWave(Audio):
    """Takes 40 samples and more."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 40, 2)


class Volume(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv3d(1, 4, 3), RawActivation(0.4, 0.9), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.act(self.conv(x)).mean((2, 3, 4)))


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    energy: torch.Tensor
    name: None = None


class Mixed(nn.Module):
    """An image, and by name a class and a switch; a dataclass with a scalar out."""

    def __init__(self):
        super().__init__()
        self.net, self.classes = TinyNet(), nn.Embedding(7, 5)
        self.example_input_array = ((torch.zeros(2, 3, 8, 8),), {"label": torch.zeros(2).long(), "keep": KEEP})

    def forward(self, image, *, label, keep):
        y = torch.where(keep.unsqueeze(1), self.net(image) + self.classes(label), 0.0)
        return Answer(y, y.square().mean() + 1)


class Rows(nn.Module):
    """(B, T, 6) by whatever kind of argument a subclass has."""

    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(6, 6), RawActivation(0.6, 1.1)

    def answer(self, *tensors):
        return self.act(self.fc(sum(tensors)))


class Star(Rows):
    def forward(self, *xs):
        return self.answer(*xs)


class StarStar(Rows):
    def forward(self, **batch):
        return self.answer(batch["a"], 2 * batch["b"])


class KeywordOnly(Rows):
    def forward(self, *, values, mask=None, **rest):
        return self.answer(values) if mask is None else self.answer(values) * mask


class BrainFloat(Rows):
    """Casts to a type of its own, which a copy in float64 cannot follow."""

    def forward(self, x):
        return self.answer(x.to(torch.bfloat16))


class Words(Rows):
    def forward(self, ids):
        return nn.functional.embedding(ids, self.fc.weight)


class Complex(Rows):
    def forward(self, x):
        return {"y": torch.fft.fft(self.answer(x))}


class Nested(Rows):
    def forward(self, x):
        return torch.nested.nested_tensor(list(self.answer(x)))


class Sparse(Rows):
    def forward(self, x):
        return self.answer(x).to_sparse()


KEEP = torch.ones(2, dtype=torch.bool)


def make(network):
    def factory():
        torch.manual_seed(0)
        return network().eval()

    return factory


tokens, audio, volume, mixed = map(make, (Tokens, Audio, Volume, Mixed))
long_wave = make(LongWave)
star, starstar, keyword, brain = map(make, (Star, StarStar, KeywordOnly, BrainFloat))
words, complexes, nested, sparse = map(make, (Words, Complex, Nested, Sparse))


def scripted():
    return torch.jit.script(star_free())


def star_free():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), RawActivation(0.6, 1.1)).eval()


def three():
    return tuple(torch.ones(2, 6) for _ in range(3))


def example():
    return {"image": torch.zeros(1, 3, 8, 8), "keep": KEEP[:1], "label": torch.zeros(1, dtype=torch.int64)}


CASES = {
    "tokens": (tokens, ["--input", "attention_mask=T:int64", "--input", "input_ids=T:int64"],
               {"input_ids": "INT64", "attention_mask": "INT64"}, ["logits", "states.0", "states.1.top"]),
    "tokens without the optional": (tokens, ["--input", "input_ids=12:int64"], {"input_ids": "INT64"},
                                    ["logits", "states.0", "states.1.top"]),
    "tokens by their shape alone": (tokens, ["--input-shape", "12"], {"input": "INT64"},
                                    ["logits", "states.0", "states.1.top"]),
    "audio": (audio, ["--input", "wave=1xL"], {"wave": "FP32"}, ["logits"]),
    "audio of one shape": (audio, ["--input-shape", "1x100"], {"input": "FP32"}, ["logits"]),
    "audio that is long": (long_wave, ["--input", "wave=1xL"], {"wave": "FP32"}, ["logits"]),
    "a volume": (volume, ["--input-shape", "1x6x6x6"], {"input": "FP32"}, ["logits"]),
    "said": (mixed, ["--input", "image=3x8x8", "--input", "label=:int64", "--input", "keep=:bool"],
             {"image": "FP32", "label": "INT64", "keep": "BOOL"}, ["logits", "energy"]),
    "an example": (mixed, ["--example", f"{HERE}:example"],
                   {"image": "FP32", "label": "INT64", "keep": "BOOL"}, ["logits", "energy"]),
    "*args of an example": (star, ["--example", f"{HERE}:three"], dict.fromkeys(("xs0", "xs1", "xs2"), "FP32"),
                            ["logits"]),
    "*args of one shape": (star, ["--input-shape", "6"], {"input": "FP32"}, ["logits"]),
    "**kwargs": (starstar, ["--input", "a=6", "--input", "b=6"], {"a": "FP32", "b": "FP32"}, ["logits"]),
    "by name alone": (keyword, ["--input-shape", "4x6"], {"values": "FP32"}, ["logits"]),
    "scripted": (scripted, ["--input-shape", "6"], {"input": "FP32"}, ["logits"]),
    "its own example": (mixed, [], {"image": "FP32", "label": "INT64", "keep": "BOOL"}, ["logits", "energy"]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def export(factory, options, source="net.pth"):
    torch.save(factory().state_dict(), source)
    name = next(key for key, value in globals().items() if value is factory)
    return main([source, "--model", f"{HERE}:{name}", *options, "-o", "out.onnx"])


@pytest.mark.parametrize("name", CASES)
def test_exported_and_verified(name):
    factory, options, inputs, outputs = CASES[name]
    assert export(factory, options) == 0
    passport = json.loads(Path("out.onnx.passport.json").read_text())
    assert {t["name"]: t["datatype"] for t in passport["input_tensors"]} == inputs
    assert [t["name"] for t in passport["output_tensors"]] == outputs
    assert len(passport["parity"]["activations"]) >= 1
    rows = {"tokens": "[0, 50)", "tokens by their shape alone": "[0, 50)", "said": "label in [0, 7)"}
    assert rows.get(name, "") in passport["parity"]["inputs"]


def test_a_graph_with_several_open_inputs_goes_in_again():
    export(tokens, CASES["tokens"][1])
    options = ["--input", "input_ids=9", "--input", "attention_mask=9", "-o", "again.onnx"]
    assert main(["out.onnx", *options]) == 0
    assert "input_ids in [0, 50)" in Path("again.onnx.passport.json").read_text()


def test_a_wrong_table_is_found():
    """Ids beyond 0 and 1 are looked up: a table that is wrong from its third row on is no pass."""
    export(tokens, ["--input", "input_ids=12:int64"])
    model = onnx.load("out.onnx")
    table = next(t for t in model.graph.initializer if list(t.dims) == [50, 8])
    values = np.array(onnx.numpy_helper.to_array(table))
    values[2:] += 0.1
    table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    onnx.save(model, "wrong.onnx")
    loaded = apa_deploy.load("net.pth", model=f"{HERE}:tokens", input=["input_ids=12:int64"])
    feed = seeded_feeds(loaded.signature)[0]
    assert feed["input_ids"].max() > 2
    wrong = apa_deploy.Session("wrong.onnx").run(feed)["logits"]
    assert np.abs(wrong - loaded.outputs(feed)["logits"]).max() > 1e-3


REFUSED = {
    "an image for several": (mixed, ["--input-shape", "3x8x8"], "--input image=SHAPE"),
    "no name of the forward's": (tokens, ["--input", "ids=12:int64"], "input_ids, attention_mask, labels"),
    "one left out": (mixed, ["--input", "image=3x8x8", "--input", "keep=:bool"], "no --input for label"),
    "twice": (tokens, ["--input", "input_ids=4:int64", "--input", "input_ids=5:int64"], "twice"),
    "no shape": (tokens, ["--input", "input_ids"], "--inputs FILE.npz"),
    "an unknown type": (tokens, ["--input", "input_ids=4:long"], "one of float32"),
    "both": (tokens, ["--input", "input_ids=4:int64", "--input-shape", "4"], "one of them"),
    "too many by position": (brain, ["--example", f"{HERE}:three"], "3 tensors by position; wanted at most 1"),
    "**kwargs without names": (starstar, ["--input-shape", "6"], "--input NAME=SHAPE"),
    "a cast to a fixed type": (brain, ["--input-shape", "6"], "Cast to the type of a weight"),
    "floats for ids": (words, ["--input", "ids=6:float32"], "--input NAME=SHAPE:DTYPE"),
    "ids for floats": (star, ["--input", "x=6:int64"], "--input NAME=SHAPE:DTYPE"),
    "complex outputs": (complexes, ["--input-shape", "6"], "output y: complex numbers"),
    "nested outputs": (nested, ["--input-shape", "4x6"], "to_padded_tensor"),
    "sparse outputs": (sparse, ["--input-shape", "6"], "y.to_dense()"),
    "no function": (tokens, ["--example", f"{HERE}:nothing"], "--example"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, capsys):
    factory, options, words = REFUSED[name]
    assert export(factory, options) == 2
    said = capsys.readouterr().err
    assert words in said and "unexpected" not in said


@pytest.mark.parametrize(("text", "dims", "dtype"), [
    ("ids=16:int64", ("batch", 16), "int64"), ("mask=T:bool", ("batch", "T"), "bool"),
    ("x=3xHxW", ("batch", 3, "H", "W"), "float32"), ("label=:int64", ("batch",), "int64"),
])  # fmt: skip
def test_parsed(text, dims, dtype):
    spec = parse_input(text)
    assert (spec.dims, spec.dtype) == (dims, dtype)


@pytest.mark.parametrize("text", ["", "x", "=3", "x=3x", "x=0", "x=-1", "x=3:", "x=3x3:float32:int64", "x=33q"])
def test_not_parsed(text):
    with pytest.raises(InputError):
        parse_input(text)


def test_open_sizes_are_tried_within_bounds():
    """A network of volumes that takes none of the sizes tried, as where a position table wants its own."""
    tried = []

    class Fixed(nn.Module):
        def forward(self, x):
            tried.append(x[0].numel())
            raise ValueError("the sizes of its table")

    signature = Signature((parse_input("x=2xDxHxW"),))
    assert lengthen_open_sizes(Fixed(), signature, frozenset()) == signature
    assert len(tried) > 1 and max(tried) <= 2**22
