"""The networks of `cpu.py` as files: each with its twin, so that only the activation differs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from apa_deploy.graph.decompose import decomposed
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.layout.pools import pools
from apa_deploy.graph.layout.shapes import shapes
from apa_deploy.graph.node import GATE, UNIT, Parameters, activations, make_node
from apa_deploy.model import Metadata, Model
from exporters.canonical import TraceOptions, canonical

sys.path.insert(0, str(Path(__file__).parent))
from upstream_form import SE_RESNET50, resnet50

SHAPE = (3, 224, 224)
TENSOR = (8, 256, 56, 56)  # of the operator alone: 25 MB
PARTS = (0, 12, 24, 49)  # numbers of activations


def network(name: str) -> nn.Module:
    """`resnet50` or `se_resnet50`, activations written the way upstream does."""
    return resnet50(replace(SE_RESNET50, gate="none") if name == "resnet50" else SE_RESNET50)


def write_all(folder: Path) -> None:
    """Every file that a configuration names."""
    for name in ("resnet50", "se_resnet50"):
        module = network(name)
        proto = canonical(Model(module, SHAPE, Metadata(name)), TraceOptions()).proto
        for suffix, model in _forms(proto):
            onnx.save(model, folder / f"{name}.{suffix}.onnx")
        if name == "resnet50":
            for count in PARTS[1:-1]:
                onnx.save(with_functions(twin(_copy(proto), spared=count)), folder / f"{name}.{count}.onnx")
            torch.onnx.export(module, (torch.randn(2, *SHAPE),), folder / f"{name}.torch.onnx", dynamo=True,
                              dynamic_shapes=({0: torch.export.Dim.AUTO},), verbose=False)  # fmt: skip
    for operation in ("AGLU", "QuickGelu"):
        onnx.save(_alone(operation), folder / f"operator.{operation}.onnx")


def _forms(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    yield "aglu", with_functions(_copy(proto))
    yield "decomposed", decomposed(_copy(proto))
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


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _alone(operation: str) -> onnx.ModelProto:
    """One operator on one tensor."""
    if operation == "AGLU":
        node = make_node("AGLU", "input", "y", Parameters((0.5,), (1.0,)))
    else:
        node = helper.make_node(operation, ["input"], ["y"], domain="com.microsoft", alpha=1.0)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *TENSOR[1:]]) for name in ("input", "y")
    ]
    domains = [helper.make_opsetid(d, v) for d, v in (("", 18), ("com.apa", 1), ("com.microsoft", 1))]
    return helper.make_model(
        helper.make_graph([node], "alone", ends[:1], ends[1:]), opset_imports=domains, ir_version=8
    )
