"""Sizes that only seem open: found by running, fixed in every file, recorded, and held against --batch."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from apa_exporters.cli import main
from torch import nn

from tests.networks import RawActivation


class Reshaped(nn.Module):
    """Reshapes to `size`, where -1 takes what the batch of the trace leaves."""

    def __init__(self, *size):
        super().__init__()
        self.conv, self.unit, self.size = nn.Conv2d(3, 4, 3, padding=1), RawActivation(), size

    def forward(self, x):
        return self.unit(self.conv(x)).reshape(*self.size).softmax(1)


class Table(nn.Module):
    """Adds a table of 16 positions."""

    def __init__(self):
        super().__init__()
        self.table, self.unit, self.last = nn.Parameter(torch.randn(1, 16, 8)), RawActivation(), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.unit(x + self.table)).mean(1)


class Patches(nn.Module):
    """Patches of 4 with a table of 64: it takes images of 32 to 35, and no others."""

    def __init__(self):
        super().__init__()
        self.patch, self.table = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 8, 8, 8))
        self.unit, self.last = RawActivation(), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.unit(self.patch(x) + self.table).mean((2, 3)))


class Least(nn.Module):
    """Convolutions without padding: it takes images of 43 and more, of any sides."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(4 if i else 3, 4, 3, 2 if i < 3 else 1) for i in range(5)))
        self.unit, self.last = RawActivation(), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.unit(self.convs(x)).mean((2, 3)))


class Scaled(nn.Module):
    """Whose graph divides by the length of the trace: it runs at every length, and is wrong at the others."""

    def __init__(self):
        super().__init__()
        self.unit, self.last = RawActivation(), nn.Linear(8, 3)

    def forward(self, x):
        length = 16 if torch.compiler.is_exporting() else x.shape[1]
        return self.last(self.unit(x)).sum(1) / length


NETWORKS = {
    "batch_4": (lambda: Reshaped(4, 4, 8, 8), ["--input-shape", "3x8x8"], {"batch": 4}),
    "batch_2": (lambda: Reshaped(2, 4, -1), ["--input-shape", "3x8x8"], {"batch": 2}),
    "table": (Table, ["--input", "x=Tx8"], {"T": 16}),
    "patches": (Patches, ["--input-shape", "3x32x32"], {"height": 32, "width": 32}),
    "least": (Least, ["--input-shape", "3x48x64"], {}),
    "wrong_elsewhere": (Scaled, ["--input", "x=Tx8"], {"T": 16}),
    "open": (lambda: Reshaped(-1, 4, 64), ["--input-shape", "3x8x8"], {}),
}


def made(name):
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval()


batch_4, batch_2, table, patches, least, wrong_elsewhere, open_ = ((lambda n=n: made(n)) for n in NETWORKS)


def options(name):
    torch.save(made(name).state_dict(), f"{name}.pth")
    factory = "open_" if name == "open" else name
    return [f"{name}.pth", "--model", f"tests.exporters.test_sizes:{factory}", *NETWORKS[name][1]]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sizes_of(path):
    return [d.dim_value or d.dim_param for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_torch(name, capfd):
    assert main([*options(name), "-o", "out.onnx"]) == 0
    said, sizes = capfd.readouterr().err, sizes_of("out.onnx")
    assert NETWORKS[name][2] or "is fixed at" not in said
    recorded = json.loads(Path("out.onnx.passport.json").read_text())
    for axis, size in NETWORKS[name][2].items():
        assert f"{axis} is fixed at {size}" in said
        assert size in sizes
        assert any(f"{axis} is fixed at {size}" in notice for notice in recorded["notices"])
    assert (sizes[0] == "batch") == ("batch" not in NETWORKS[name][2])
    assert recorded["input_tensors"][0]["sizes"] == sizes
    assert recorded["input_tensors"][0]["shape"] == [size if isinstance(size, int) else -1 for size in sizes]


def legacy(name, path, batch, shape, axes):
    x = torch.randn(batch, *shape)
    torch.onnx.export(
        made(name), (x,), path, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": axes, "y": {0: "n"}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "batch", "shape", "axes", "fixed"),
    [
        ("batch_4", 4, (3, 8, 8), {0: "n"}, {0: 4}),
        ("batch_2", 2, (3, 8, 8), {0: "n"}, {0: 2}),
        ("table", 2, (16, 8), {0: "n", 1: "t"}, {1: 16}),
        ("open", 2, (3, 8, 8), {0: "n"}, {}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_says_it_is_open(name, batch, shape, axes, fixed, capfd):
    legacy(name, "theirs.onnx", batch, shape, axes)
    assert main(["theirs.onnx", "-o", "out.onnx"]) == 0
    sizes = sizes_of("out.onnx")
    assert {axis: sizes[axis] for axis in axes} == axes | fixed
    assert capfd.readouterr().err.count("is fixed at") == len(fixed)
    given = {k: v for k, v in (("--batch", "3"),) if 0 in fixed}
    for option, value in given.items():
        assert main(["theirs.onnx", "-o", "other.onnx", option, value]) == 2
        assert f"wanted {fixed[0]}, the batch that the network fixes" in capfd.readouterr().err


def test_every_format_sees_it(capfd):
    pytest.importorskip("openvino")
    given = options("batch_4")
    assert main([*given, "--format", "openvino", "-o", "out.xml"]) == 0
    from apa_deploy.runtimes.openvino import read_inputs

    assert [next(iter(dims)) for _, dims, _ in read_inputs(Path("out.xml"))] == [4]
    assert main([*given, "--format", "triton", "-o", "repository"]) == 0
    config = next(Path("repository").glob("*/config.pbtxt")).read_text()
    assert "max_batch_size" not in config and "dims: 4" in config
    assert main([*given, "--format", "trt", "--bundle", "bundle", "--no-verify"]) == 0
    recipe = json.loads(Path("bundle/recipe.json").read_text())
    assert {shape[0] for shapes in recipe["shapes"].values() for shape in shapes} == {4}
    capfd.readouterr()
    assert main([*given, "--format", "trt", "--bundle", "other", "--batch", "1:4:8"]) == 2
    assert "wanted 4, which the network fixes" in capfd.readouterr().err
    assert not Path("other").exists()
    assert np.load("bundle/golden/inputs.npz").files
