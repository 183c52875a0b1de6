"""The networks of `cpu.py` as files: each with its twin, so that only the activation differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import nn

from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.layout.edit import replace_nodes
from apa_deploy.graph.layout.pools import pools
from apa_deploy.graph.layout.shapes import shapes
from apa_deploy.graph.node import activations, is_activation
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import GATE, UNIT
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from benchmarks.upstream_form import SE_RESNET50, resnet50

SHAPE, DETECTOR_SHAPE = (3, 224, 224), (3, 320, 320)
LAST = "se_resnet50.relu.onnx"  # what `write_all` writes at the end
PARTS = (0, 12, 24, 49)  # numbers of activations


def network(name: str) -> nn.Module:
    """`resnet50` or `se_resnet50`, activations written the way upstream does."""
    return resnet50(replace(SE_RESNET50, gate="none") if name == "resnet50" else SE_RESNET50)


def write_all(folder: Path) -> None:
    """Every file that a configuration names."""
    for name in ("resnet50", "se_resnet50"):
        module = network(name)
        proto = TorchNetwork(module, image_signature(SHAPE), Metadata(name)).trace().proto
        for suffix, model in _forms(proto):
            onnx.save(model, folder / f"{name}.{suffix}.onnx")
        if name == "resnet50":
            for count in PARTS[1:-1]:
                onnx.save(with_functions(twin(_copy(proto), spared=count)), folder / f"{name}.{count}.onnx")
            torch.onnx.export(module, (torch.randn(2, *SHAPE),), folder / f"{name}.torch.onnx", dynamo=True,
                              dynamic_shapes=({0: torch.export.Dim.AUTO},), verbose=False)  # fmt: skip


def _forms(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    yield "aglu", with_functions(_copy(proto))
    yield "decomposed", decompose(_copy(proto))
    yield "relu", twin(_copy(proto))


def twin(model: onnx.ModelProto, spared: int = 0) -> onnx.ModelProto:
    """The model itself with ReLU and sigmoid, but for the first `spared` activations, and with pooling operators.

    The pooling operators favour the twin: ONNX Runtime keeps them in its blocked layout, and reductions not.
    """
    for node in list(activations(model.graph))[spared:]:
        node.op_type, node.domain = {UNIT: "Relu", GATE: "Sigmoid"}[node.op_type], ""
        del node.attribute[:]
    pools(model, shapes(model))
    return model


def add_detector(path: Path, folder: Path) -> None:
    """A detector of one's own, and its twin with SiLU for every activation."""
    model = onnx.load(path)
    onnx.save(model, folder / "detector.aglu.onnx")
    nodes = []
    for node in model.graph.node:
        if is_activation(node):
            source, gate = node.input[0], f"{node.output[0]}/gate"
            nodes.append(helper.make_node("Sigmoid", [source], [gate]))
            nodes.append(helper.make_node("Mul", [source, gate], list(node.output)))
        else:
            nodes.append(node)
    replace_nodes(model.graph, nodes)
    del model.functions[:]
    onnx.save(model, folder / "detector.silu.onnx")


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy
