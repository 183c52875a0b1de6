"""Small float32 graphs to quantise, written down as chains of nodes, and what each holds."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.node import DOMAIN, attributes
from apa_deploy.maths import Parameters

UNIT = {**attributes(Parameters((0.5,), (1.1,))), "domain": DOMAIN}
CHANNELS = 8


class Builder:
    """Adds nodes to a graph; each method returns the name of what it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def add(self, operator: str, *inputs: str, name: str = "", **attributes) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=name or output, **attributes))
        return output

    def constant(self, value, name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def conv(self, x: str, into: int = CHANNELS, out: int = CHANNELS, kernel: int = 3, name: str = "") -> str:
        weight = self.random.standard_normal((out, into, kernel, kernel)) * (2 / (into * kernel**2)) ** 0.5
        name = name or f"conv{len(self.nodes)}"
        w = self.constant(weight.astype(np.float32), f"{name}.weight")
        b = self.constant((0.1 * self.random.standard_normal(out)).astype(np.float32), f"{name}.bias")
        return self.add("Conv", x, w, b, name=name, pads=[kernel // 2] * 4)

    def unit(self, x: str, kind: str = "AGLU", name: str = "", **changes) -> str:
        return self.add(kind, x, name=name or f"act{len(self.nodes)}", **{**UNIT, **changes})

    def head(self, x: str, channels: int = CHANNELS) -> str:
        mean = self.add("GlobalAveragePool", x)
        weight = self.constant(self.random.standard_normal((5, channels)).astype(np.float32), "fc.weight")
        return self.add("Gemm", self.add("Flatten", mean), weight, name="fc", transB=1)

    def se(self, x: str) -> str:
        mean = self.add("GlobalAveragePool", x)
        gate = self.unit(self.conv(mean, kernel=1, name="se.fc"), "APA", name="se.gate")
        return self.add("Mul", x, gate)

    def model(self, output: str, opset: int = 20, shape=("n", 5)) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.apa", 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=10)


def plain(g: Builder) -> str:
    x = g.unit(g.conv("x", 3, name="stem"))
    return g.head(g.unit(g.conv(x, name="second")))


def residual(g: Builder) -> str:
    x = g.unit(g.conv("x", 3, name="stem"))
    y = g.conv(g.unit(g.conv(x, name="a")), name="b")
    return g.head(g.unit(g.add("Add", y, x)))


def squeeze(g: Builder) -> str:
    x = g.unit(g.conv("x", 3, name="stem"))
    y = g.se(g.conv(g.unit(g.conv(x, name="a")), name="b"))
    return g.head(g.unit(g.add("Add", y, x)))


def spatial(g: Builder) -> str:
    """CBAM's second half: a map of gates from the largest and the mean over the channels."""
    x = g.unit(g.conv("x", 3, name="stem"))
    axes = g.constant(np.array([1]))
    pooled = g.add("Concat", g.add("ReduceMax", x, axes), g.add("ReduceMean", x, axes), axis=1)
    gate = g.unit(g.conv(pooled, 2, 1, 7, name="spatial"), "APA")
    return g.head(g.unit(g.conv(g.add("Mul", x, gate), name="b")))


def pooled(g: Builder) -> str:
    x = g.add("MaxPool", g.unit(g.conv("x", 3, name="stem")), kernel_shape=[3, 3], strides=[2, 2])
    return g.head(g.unit(g.conv(x, name="b")))


def shortcut(g: Builder) -> str:
    """CIFAR's: every second pixel, padded with channels of zeros."""
    x = g.unit(g.conv("x", 3, 4, name="stem"))
    y = g.conv(g.unit(g.conv(x, 4, name="a")), name="b")
    ends = [g.constant(np.array(v)) for v in ([0, 0], [16, 16], [2, 3])]
    pads = g.constant(np.array([0, 2, 0, 0, 0, 2, 0, 0]))
    short = g.add("Pad", g.add("Slice", x, *ends), pads)
    return g.head(g.unit(g.add("Add", y, short)))


def concat(g: Builder) -> str:
    """A detector's: two branches side by side, sampled up."""
    x = g.unit(g.conv("x", 3, name="stem"))
    a, b = (g.unit(g.conv(x, name=name)) for name in "ab")
    both = g.add("Concat", a, b, axis=1)
    scales = g.constant(np.array([1, 1, 2, 2], np.float32))
    return g.head(g.unit(g.conv(g.add("Resize", both, "", scales), 2 * CHANNELS, name="c")))


def silu(g: Builder) -> str:
    x = g.conv("x", 3, name="stem")
    x = g.add("Mul", x, g.add("Sigmoid", x))
    return g.head(g.unit(g.conv(x, name="b")))


def relu(g: Builder) -> str:
    x = g.add("Relu", g.conv("x", 3, name="stem"))
    return g.head(g.unit(g.conv(x, name="b")))


def channels(g: Builder) -> str:
    """Parameters a channel in one place."""
    many = {"lambda": [0.1 * i for i in range(CHANNELS)], "kappa": [1.0]}
    x = g.unit(g.conv("x", 3, name="stem"), name="many", **many)
    return g.head(g.unit(g.conv(x, name="b")))


def build(network, seed: int = 0) -> onnx.ModelProto:
    """The model of one of the functions above."""
    builder = Builder(seed)
    return builder.model(network(builder))
