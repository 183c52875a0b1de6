"""A small network as apa-export writes it, decomposed and fused, with its passports."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters
from apa_deploy.records.passport import Passport, dump, file_record, now, passport_path

SIDE, CHANNELS = 16, 8
ACTIVATIONS = {"act": ("AGLU", 0.5, 1.1), "limit": ("AGLU", 1e-8, 0.9), "gate": ("APA", 0.8, -0.5)}


def canonical(batch="batch", side="height"):
    """conv -> act -> limit, times a gate on the pooled values."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, side, side])
    scores = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    weight = np.random.default_rng(0).standard_normal((CHANNELS, 3, 3, 3)).astype(np.float32) / 5
    ends = {"act": ("conv", "a"), "limit": ("a", "b"), "gate": ("pooled", "g")}
    nodes = {
        name: make_node(kind, *ends[name], Parameters((lam,), (kappa,)), name)
        for name, (kind, lam, kappa) in ACTIVATIONS.items()
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "w"], ["conv"], pads=[1, 1, 1, 1]),
            nodes["act"],
            nodes["limit"],
            helper.make_node("GlobalAveragePool", ["b"], ["pooled"]),
            nodes["gate"],
            helper.make_node("Mul", ["b", "g"], ["scaled"]),
            helper.make_node("GlobalAveragePool", ["scaled"], ["logits"]),
        ],
        "network",
        [image],
        [scores],
        [numpy_helper.from_array(weight, "w")],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    facts = {
        n: {"kind": k, "floor": "-", "lambda": [lam], "kappa": [kap]} for n, (k, lam, kap) in ACTIVATIONS.items()
    }
    model.metadata_props.add(key="apa.activations", value=json.dumps(facts))
    return model


def save(model, path, input_shape=(3, SIDE, SIDE)):
    onnx.save(model, path)
    passport = Passport(
        created=now(), format="onnx", options={}, architecture="small", weights="model",
        input_shape=input_shape, output_names=["logits"], inputs=[], outputs=[file_record(path)],
        versions={}, activations=[],
    )  # fmt: skip
    passport_path(path).write_text(dump(passport))
    return path


@pytest.fixture
def plain(tmp_path):
    return save(decompose(canonical()), tmp_path / "plain.onnx")


@pytest.fixture
def fused(tmp_path):
    return save(with_functions(canonical()), tmp_path / "fused.onnx")
