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

from apa_deploy.architectures.spec import Head
from apa_deploy.calibration import Quantisation, quantise
from apa_deploy.calibration.data import CalibrationData
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

SHAPES = {
    "resnet50": (3, 224, 224),
    "se_resnet50": (3, 224, 224),
    "detector": (3, 320, 320),
    "wide": (32, 56, 56),
    "small": (3, 32, 32),
}
PARTS = (0, 12, 24, 49)  # numbers of activations

_PLAIN = replace(SE_RESNET50, gate="none")
_SMALL = replace(_PLAIN, depths=(1,), widths=(64,), heads=(Head("fc", "linear", 256, 10),))
SPECS = {"resnet50": _PLAIN, "se_resnet50": SE_RESNET50, "small": _SMALL}


def network(name: str) -> nn.Module:
    """One of `SPECS`, activations written the way upstream does."""
    return resnet50(SPECS[name])


def write_network(name: str, folder: Path) -> None:
    """Every file of "wide" or of one of `SPECS` that a configuration names."""
    if name == "wide":
        _write_wide(folder)
        return
    module, shape = network(name), SHAPES[name]
    proto = TorchNetwork(module, image_signature(shape), Metadata(name)).trace().proto
    for suffix, model in _forms(proto):
        onnx.save(model, folder / f"{name}.{suffix}.onnx")
    if name == "se_resnet50":
        return
    onnx.save(with_functions(quantise_network(proto, random_images(shape))), folder / f"{name}.int8.onnx")
    torch.onnx.export(module, (torch.randn(2, *shape),), folder / f"{name}.torch.onnx", dynamo=True,
                      dynamic_shapes=({0: torch.export.Dim.AUTO},), verbose=False)  # fmt: skip
    for count in PARTS[1:-1] if name == "resnet50" else ():
        onnx.save(with_functions(twin(_copy(proto), spared=count)), folder / f"{name}.{count}.onnx")


def random_images(shape: tuple[int, ...]) -> np.ndarray:
    """Sixteen, (16, *shape) float32: as few as calibration takes."""
    return np.random.default_rng(0).standard_normal((16, *shape)).astype(np.float32)


def quantise_network(model: onnx.ModelProto, x: np.ndarray) -> onnx.ModelProto:
    """The canonical model in 8 bits, calibrated on `x`; its weights are random, so that no gate would judge it."""
    data = CalibrationData({model.graph.input[0].name: x}, None, "random")
    return quantise(model, data, Quantisation(judge=False)).proto


def _write_wide(folder: Path) -> None:
    """Six activations of lambda 1e-4, each before a convolution that spreads its sums over +-9 again."""
    channels = SHAPES["wide"][0]
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
    onnx.save(_image_model([convolution], "y", weights), folder / "wide.conv.onnx")


def _image_model(nodes: list[onnx.NodeProto], output: str, weights: np.ndarray) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ("N", *SHAPES["wide"])) for n in ("x", output)
    ]
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
