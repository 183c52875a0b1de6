"""Make the corpus: one small network with every module that people write, as each exporter writes it.

    python tests/graph/corpus/make.py FOLDER

Run once in an environment of each torch version, then `simplify.py`. Needs torch and onnx; onnxscript for the
newer exporters. The files in `files/` were made so with torch 2.1.2, 2.5.1, 2.13.0 and 2.15.0.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn import functional

OPSETS = {"torchscript": (11, 17), "dynamo": (18,)}


class Gate(nn.Module):
    """A gate with a clamped lambda and nn.Softplus(beta=-1), as detectors have it."""

    def __init__(self, lambda_, kappa):
        super().__init__()
        self.lambd = nn.Parameter(torch.tensor([lambda_]))
        self.kappa = nn.Parameter(torch.tensor([kappa]))
        self.act = nn.Softplus(beta=-1.0)

    def forward(self, x):
        lam = torch.clamp(self.lambd, min=0.0001)
        return torch.exp((1 / lam) * self.act((self.kappa * x) - torch.log(lam)))


class Unit(nn.Module):
    """A unit with a floor of relu + 1e-8."""

    def __init__(self, lambda_, kappa):
        super().__init__()
        self.lambda_param = nn.Parameter(torch.tensor([lambda_]))
        self.kappa_param = nn.Parameter(torch.tensor([kappa]))

    def forward(self, x):
        lam = torch.relu(self.lambda_param) + 1e-8
        inner = functional.softplus(self.kappa_param * x - torch.log(lam), beta=-1.0, threshold=20.0)
        return x * torch.exp(inner / lam)


class ChannelUnit(nn.Module):
    """A unit with values of its own for each channel, through logsigmoid."""

    def __init__(self, lambdas, kappas):
        super().__init__()
        self.lambda_param = nn.Parameter(torch.tensor(lambdas).reshape(1, -1, 1, 1))
        self.kappa_param = nn.Parameter(torch.tensor(kappas).reshape(1, -1, 1, 1))

    def forward(self, x):
        lam = self.lambda_param
        return torch.exp(functional.logsigmoid(self.kappa_param * x - lam.log()) / lam) * x


class PowerGate(nn.Module):
    """The formula as the paper prints it."""

    def __init__(self, lambda_, kappa):
        super().__init__()
        self.l, self.k = nn.Parameter(torch.tensor(lambda_)), nn.Parameter(torch.tensor(kappa))

    def forward(self, x):
        return (1 + self.l * torch.exp(-self.k * x)) ** (-1 / self.l)


class Net(nn.Module):
    """Four activations of ours, then SiLU, Mish, a softmax over space and a logistic head, which are not."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 1) for i in range(6))
        self.gate, self.unit = Gate(0.3, 0.9), Unit(-0.2, 1.1)
        self.channels = ChannelUnit([0.2, 0.5, 1.0, 2.0], [1.0, 0.7, -0.4, 1.3])
        self.power = PowerGate(0.6, -0.8)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        activations = (self.gate, self.unit, self.channels, self.power, functional.silu, functional.mish)
        for conv, activation in zip(self.convs, activations, strict=True):
            x = activation(conv(x))
        attention = torch.softmax(x.flatten(2), dim=-1)
        return torch.sigmoid(self.fc((x.flatten(2) * attention).sum(-1)))


# What there is to find, in the order of the graph: kind, lambda, kappa.
TRUTH = (
    ("APA", (0.3,), (0.9,)),
    ("AGLU", (1e-8,), (1.1,)),
    ("AGLU", (0.2, 0.5, 1.0, 2.0), (1.0, 0.7, -0.4, 1.3)),
    ("APA", (0.6,), (-0.8,)),
)


def exported(path, exporter, opset):
    """Write `Net` with one exporter of the torch that runs this."""
    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 3, 4, 4)
    if exporter == "torchscript":
        given = {"dynamo": False} if "dynamo" in torch.onnx.export.__code__.co_varnames else {}
        dynamic = {"x": {0: "batch"}}
        torch.onnx.export(net, (x,), path, opset_version=opset, input_names=["x"], dynamic_axes=dynamic, **given)
    elif exporter == "dynamo":
        program = torch.onnx.export(net, (x,), dynamo=True, opset_version=opset, input_names=["x"])
        program.save(path)
    else:
        torch.onnx.dynamo_export(net, x).save(str(path))
    save(onnx.load(path), path)
    path.with_name(path.name + ".data").unlink(missing_ok=True)


def save(model, path):
    """Without the lines of source that torch records: they name folders of the machine that exported."""
    for part in (model, model.graph, *model.functions):
        part.doc_string = ""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for item in (
        *nodes,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        item.doc_string = ""
        if hasattr(item, "metadata_props"):  # since onnx 1.16
            del item.metadata_props[:]
    onnx.save(model, path)


def export_all(folder):
    version = torch.__version__.partition("+")[0]
    jobs = [(exporter, opset) for exporter, opsets in OPSETS.items() for opset in opsets]
    for exporter, opset in [*jobs, ("dynamo_export", 18)]:
        path = folder / f"torch-{version}-{exporter}-{opset}.onnx"
        try:
            exported(path, exporter, opset)
            print(path.name, path.stat().st_size)
        except Exception as error:  # noqa: BLE001 - an exporter that this torch has not
            path.unlink(missing_ok=True)
            print(path.name, "-", str(error).splitlines()[0][:100])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    export_all(folder)
