"""The networks of `cpu.py` as files: each with its twin, so that only the activation differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn

from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.layout.edit import replace_nodes
from apa_deploy.graph.layout.pools import pools
from apa_deploy.graph.layout.shapes import shapes
from apa_deploy.graph.node import DOMAIN, VERSION, activations, is_activation, make_node
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import GATE, UNIT, Parameters
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from benchmarks.upstream_form import SE_RESNET50, resnet50

SHAPE, DETECTOR_SHAPE = (3, 224, 224), (3, 320, 320)
WIDE_SHAPE = (32, 56, 56)
LAST = "wide.conv.onnx"  # what `write_all` writes at the end
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
    _write_wide(folder)


def _write_wide(folder: Path) -> None:
    """Six activations of lambda 1e-4, each before a convolution that spreads its sums over +-9 again."""
    channels = WIDE_SHAPE[0]
    # the root of the mean square of such an activation is 2.1, where its input has a deviation of 3
    deviation = 3 / 2.1 / np.sqrt(channels * 9)
    weights = np.random.default_rng(0).normal(0, deviation, (channels, channels, 3, 3)).astype(np.float32)
    nodes, value = [], "x"
    for i in range(6):
        nodes.append(make_node(UNIT, value, f"a{i}", Parameters((1e-4,), (1.0,)), f"act{i}"))
        nodes.append(helper.make_node("Conv", [f"a{i}", "w"], [f"y{i}"], pads=[1] * 4))
        value = f"y{i}"
    proto = _image_model(nodes, value, weights)
    onnx.save(with_functions(_copy(proto)), folder / "wide.aglu.onnx")
    onnx.save(decompose(proto), folder / "wide.decomposed.onnx")
    convolution = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    onnx.save(_image_model([convolution], "y", weights), folder / LAST)


def _image_model(nodes: list[onnx.NodeProto], output: str, weights: np.ndarray) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ("N", *WIDE_SHAPE)) for n in ("x", output)]
    graph = helper.make_graph(nodes, "wide", values[:1], values[1:], [onnx.numpy_helper.from_array(weights, "w")])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


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
