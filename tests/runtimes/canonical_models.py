"""Small models with canonical nodes, and the float64 truth about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters

Shape = Sequence[int | str]


def one_node(
    parameters: Parameters, kind: str = "AGLU", dtype: int = TensorProto.FLOAT, shape: Shape = ("N",)
) -> onnx.ModelProto:
    """x -> one canonical node named `act` -> y."""
    values = [helper.make_tensor_value_info(name, dtype, shape) for name in ("x", "y")]
    graph = helper.make_graph([make_node(kind, "x", "y", parameters, "act")], "g", values[:1], values[1:])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file in `folder`."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def truth(kind: str, x: np.ndarray, lambda_: np.ndarray | float, kappa: np.ndarray | float) -> np.ndarray:
    """The activation of `x` in float64, from the parameters as float32 (which is what a node stores)."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        z = x.astype(np.float64)
    lam, k = (np.float64(np.float32(v)) for v in (lambda_, kappa))
    positive = np.where(lam > 0, lam, 1)
    with np.errstate(all="ignore"):
        general = np.exp(-np.logaddexp(0, np.log(positive) - k * z) / positive)
        gate = np.where(lam > 0, general, np.exp(-np.exp(-k * z)))
        return gate if kind == "APA" else z * gate
