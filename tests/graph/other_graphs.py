"""Graphs as other exporters leave them: one activation, then an operator or a peculiarity of theirs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, DOUBLE = TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE
SHAPE = ("n", 4, 8, 8)


def unit(source: str, target: str, dtype=np.float32, lambda_=0.4, kappa=1.2):
    """The nodes and constants of an AGLU as a tracer writes them."""
    values = {"kappa": kappa, "log": np.log(lambda_), "minus": -1.0, "rate": 1 / lambda_}
    names = ("Mul", source, "kappa"), ("Sub", 0, "log"), ("Mul", 0, "minus"), ("Softplus", 0), ("Mul", 0, "minus")
    nodes, last = [], source
    for i, (operator, *inputs) in enumerate([*names, ("Mul", 0, "rate"), ("Exp", 0)]):
        nodes.append(helper.make_node(operator, [last if i else source, *inputs[1:]], [f"{target}/{i}"]))
        last = f"{target}/{i}"
    nodes.append(helper.make_node("Mul", [source, last], [target], name=f"{target}/Mul"))
    return nodes, [numpy_helper.from_array(np.array(v, dtype), k) for k, v in values.items()]


def graph(
    *rest, opset=18, ir=10, shape=SHAPE, outputs=(("y", FLOAT, SHAPE),), element=FLOAT, inputs=(), **constants
):
    """input -> AGLU -> u -> `rest` -> y. A rest: (operator, inputs, outputs, attributes); constants are arrays."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    nodes, weights = unit("input", "u", dtype)
    nodes += [
        helper.make_node(op, list(ins), list(outs), **(more[0] if more else {})) for op, ins, outs, *more in rest
    ]
    weights += [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    ends = [helper.make_tensor_value_info(*value) for value in (("input", element, shape), *inputs)]
    made = helper.make_graph(nodes, "g", ends, [helper.make_tensor_value_info(*o) for o in outputs], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def out_of_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same nodes from the last to the first, as a converter to half may leave them."""
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def with_size(size: int) -> onnx.ModelProto:
    """The batch as a number."""
    model = graph(("Relu", ["u"], ["y"]))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = size
    return model


def boxes(scalar: bool, kept: float) -> onnx.ModelProto:
    """Suppression with thresholds as scalars (mmdeploy's) or lists; `kept`: above which score."""
    wrap = (lambda v: v) if scalar else (lambda v: [v])
    return graph(
        ("Reshape", ["u", "corners"], ["b"]), ("ReduceMax", ["b", "last"], ["s0"], {"keepdims": 0}),
        ("Unsqueeze", ["s0", "one"], ["s"]),
        ("NonMaxSuppression", ["b", "s", "most", "overlap", "least"], ["y"]), ("Identity", ["b"], ["z"]),
        outputs=(("y", INT64, ("kept", 3)), ("z", FLOAT, ("n", 64, 4))), corners=np.array([0, 64, 4]),
        last=np.array([2]), one=np.array([1]), most=np.array(wrap(5)), overlap=np.array(wrap(0.3), np.float32),
        least=np.array(wrap(kept), np.float32),
    )  # fmt: skip


_NORM = {"s": np.linspace(0.5, 1.5, 4, dtype=np.float32), "b": np.zeros(4, np.float32),
         "m": np.zeros(4, np.float32), "v": np.ones(4, np.float32)}  # fmt: skip
_GRID = np.random.default_rng(0).uniform(-1.2, 1.2, (1, 5, 5, 2)).astype(np.float32)
_TWICE = np.array([1, 1, 2, 2], np.float32)
_LARGE = (("y", FLOAT, ("n", 4, 16, 16)),)
_FLAT = (("y", FLOAT, ("n", 4, 5, 5)),)

GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "layer norm": lambda: graph(
        ("LayerNormalization", ["u", "g", "h"], ["y"], {"axis": -1}), g=np.ones(8, np.float32),
        h=np.zeros(8, np.float32),
    ),
    "layer norm over three axes": lambda: graph(
        ("LayerNormalization", ["u", "g"], ["y"], {"axis": 1}), g=np.ones((4, 8, 8), np.float32)
    ),
    "rms norm": lambda: graph(("RMSNormalization", ["u", "g"], ["y"]), opset=23, g=np.ones(8, np.float32)),
    "group norm of 18": lambda: graph(
        ("GroupNormalization", ["u", "s2", "b2"], ["y"], {"num_groups": 2}),
        s2=np.array([1, 1.5], np.float32), b2=np.array([0, 0.1], np.float32),
    ),
    "group norm of 21": lambda: graph(
        ("GroupNormalization", ["u", "s", "b"], ["y"], {"num_groups": 2}), opset=21, s=_NORM["s"], b=_NORM["b"]
    ),
    "grid sample of 16": lambda: graph(
        ("Expand", ["grid", "two"], ["places"]), ("GridSample", ["u", "places"], ["y"], {"mode": "bilinear"}),
        outputs=_FLAT, shape=(2, 4, 8, 8), opset=16, ir=8, grid=_GRID, two=np.array([2, 1, 1, 1]),
    ),
    "grid sample of 20": lambda: graph(
        ("Expand", ["grid", "two"], ["places"]),
        ("GridSample", ["u", "places"], ["y"], {"mode": "cubic", "padding_mode": "border"}),
        outputs=_FLAT, shape=(2, 4, 8, 8), opset=20, grid=_GRID, two=np.array([2, 1, 1, 1]),
    ),
    "suppression by scalars": lambda: boxes(scalar=True, kept=0.5),
    "suppression that keeps nothing": lambda: boxes(scalar=False, kept=1e9),
    "batch norm of 6": lambda: graph(
        ("BatchNormalization", ["u", "s", "b", "m", "v"], ["y"], {"is_test": 1}), opset=6, ir=3, **_NORM
    ),
    "batch norm of 8": lambda: graph(
        ("BatchNormalization", ["u", "s", "b", "m", "v"], ["y"]), opset=8, ir=3, **_NORM
    ),
    "upsample of 7": lambda: graph(
        ("Upsample", ["u"], ["y"], {"scales": [1.0, 1.0, 2.0, 2.0]}), opset=7, ir=3, outputs=_LARGE
    ),
    "upsample of 9": lambda: graph(
        ("Upsample", ["u", "twice"], ["y"]), opset=9, ir=4, outputs=_LARGE, twice=_TWICE
    ),
    "resize of 10": lambda: graph(
        ("Resize", ["u", "twice"], ["y"], {"mode": "linear"}), opset=10, ir=5, outputs=_LARGE, twice=_TWICE
    ),
    "scatter of 10": lambda: graph(
        ("Scatter", ["u", "i", "w"], ["y"], {"axis": 1}), opset=10, ir=5,
        i=np.zeros((1, 1, 1, 1), np.int64), w=np.zeros((1, 1, 1, 1), np.float32),
    ),
    "opset 28": lambda: graph(("Relu", ["u"], ["y"]), opset=28, ir=13),
    "IR 14": lambda: graph(("Relu", ["u"], ["y"]), ir=14),
    "double": lambda: graph(
        ("ReduceSum", ["u"], ["y"], {"keepdims": 0}), element=DOUBLE, outputs=(("y", DOUBLE, ()),)
    ),
    "a scalar and integers": lambda: graph(
        ("Size", ["u"], ["y"]), ("Relu", ["u"], ["z"]), outputs=(("y", INT64, ()), ("z", FLOAT, SHAPE))
    ),
    "an output of no known shape": lambda: graph(("Relu", ["u"], ["y"]), outputs=(("y", FLOAT, None),)),
    "nodes in no order": lambda: out_of_order(graph(("Relu", ["u"], ["y"]))),
    "a batch of -1": lambda: with_size(-1),
    "a batch of 0": lambda: with_size(0),
    "a batch of 3": lambda: with_size(3),
    "a batch baked in": lambda: graph(
        ("Reshape", ["u", "flat"], ["y"]), shape=(3, 4, 8, 8), outputs=(("y", FLOAT, (3, 4, 64)),),
        flat=np.array([3, 4, 64]),
    ),
    "a batch of 8": lambda: with_size(8),
}  # fmt: skip
