"""The activation in every spelling that exporters, converters and people give it, and what looks like it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

THRESHOLD = 20.0


class Graph:
    """Builds a model with one input `x` and one output `y`; values are named by their operator and number.

    `parameters`: how constants reach their users (see `CONSTANTS`). `element`: the float type of everything.
    """

    def __init__(self, shape=("N", 3, "H", "W"), parameters="initializer", element=TensorProto.FLOAT, swap=False):
        self.shape, self.parameters, self.element, self.swap = shape, parameters, element, swap
        self.nodes, self.initializers = [], []

    def op(self, operator, *inputs, **attributes):
        if self.swap and operator in ("Add", "Mul") and len(inputs) == 2:
            inputs = inputs[::-1]
        name = f"/act/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name + "_output"], name=name, **attributes))
        return name + "_output"

    def barrier(self, value):
        """An operator that changes nothing and that no elementwise piece can reach through."""
        return self.op("Transpose", value, perm=list(range(len(self.shape))))

    def constant(self, value, kind=None):
        array = np.asarray(value, dtype=helper.tensor_dtype_to_np_dtype(self.element))
        return CONSTANTS[kind or self.parameters](self, array)

    def initializer(self, array):
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def model(self, result, opset=18, domains=()):
        perm = list(range(len(self.shape)))
        self.nodes.append(helper.make_node("Transpose", [result], ["y"], name="end", perm=perm))
        x, y = (helper.make_tensor_value_info(n, self.element, self.shape) for n in "xy")
        for dim in y.type.tensor_type.shape.dim:
            dim.Clear()
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.initializers)
        imports = [helper.make_opsetid("", opset), *domains]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


CONSTANTS = {
    "initializer": lambda g, a: g.initializer(a),
    "Constant": lambda g, a: g.op("Constant", value=numpy_helper.from_array(a)),
    "Identity": lambda g, a: g.op("Identity", g.op("Identity", g.initializer(a))),
    "Reshape": lambda g, a: g.op(
        "Reshape", g.initializer(a.reshape(-1)), g.initializer(np.array(a.shape, np.int64))
    ),
    "Cast": lambda g, a: g.op("Cast", g.initializer(a.astype(np.float64)), to=g.element),
}


def _softplus_beta(g, inner):
    """PyTorch's softplus with beta = -1, as a Mul and a Div."""
    return g.op("Div", g.op("Softplus", g.op("Mul", inner, g.constant(-1.0))), g.constant(-1.0))


def _inner(g, z, lam, kappa):
    return g.op("Sub", g.op("Mul", z, g.constant(kappa)), g.constant(np.log(lam)))


def softplus_mul_div(g, z, lam, kappa):
    return g.op("Exp", g.op("Mul", _softplus_beta(g, _inner(g, z, lam, kappa)), g.constant(1 / lam)))


def softplus_neg(g, z, lam, kappa):
    soft = g.op("Neg", g.op("Softplus", g.op("Neg", _inner(g, z, lam, kappa))))
    return g.op("Exp", g.op("Div", soft, g.constant(lam)))


def softplus_folded(g, z, lam, kappa):
    """What a simplifier leaves: ln(lambda) - kappa*z, Softplus, -1/lambda."""
    t = g.op("Sub", g.constant(np.log(lam)), g.op("Mul", z, g.constant(kappa)))
    return g.op("Exp", g.op("Mul", g.op("Softplus", t), g.constant(-1 / np.asarray(lam))))


def softplus_threshold(g, z, lam, kappa):
    """torch.onnx's dynamo exporter: beyond the threshold, the line."""
    inner = _inner(g, z, lam, kappa)
    scaled = g.op("Mul", inner, g.constant(-1.0))
    curved = g.op("Div", g.op("Softplus", scaled), g.constant(-1.0))
    soft = g.op("Where", g.op("Greater", scaled, g.constant(THRESHOLD)), inner, curved)
    return g.op("Exp", g.op("Mul", soft, g.constant(1 / lam)))


def softplus_threshold_less(g, z, lam, kappa):
    inner = _inner(g, z, lam, kappa)
    curved = g.op("Neg", g.op("Softplus", g.op("Neg", inner)))
    soft = g.op("Where", g.op("Less", inner, g.constant(-THRESHOLD)), inner, curved)
    return g.op("Exp", g.op("Div", soft, g.constant(lam)))


def softplus_written_out(g, z, lam, kappa):
    """max(t, 0) + log(1 + exp(-|t|))."""
    t = g.op("Neg", _inner(g, z, lam, kappa))
    tail = g.op("Log", g.op("Add", g.op("Exp", g.op("Neg", g.op("Abs", t))), g.constant(1.0)))
    soft = g.op("Add", g.op("Relu", t), tail)
    return g.op("Exp", g.op("Div", soft, g.constant(-np.asarray(lam))))


def computed_clip(g, z, lam, kappa):
    """Ultralytics and mmdet: clamp at 1e-4, Log and Reciprocal left in the graph."""
    floor = g.op("Clip", g.constant(lam), g.constant(1e-4, "initializer"), "")
    inner = g.op("Sub", g.op("Mul", z, g.constant(kappa)), g.op("Log", floor))
    return g.op("Exp", g.op("Mul", g.op("Reciprocal", floor), _softplus_beta(g, inner)))


def computed_relu(g, z, lam, kappa):
    """Upstream's units: relu + 1e-8."""
    floor = g.op("Add", g.op("Relu", g.constant(lam)), g.constant(1e-8))
    inner = g.op("Sub", g.op("Mul", z, g.constant(kappa)), g.op("Log", floor))
    return g.op("Exp", g.op("Div", _softplus_beta(g, inner), floor))


def log_sigmoid(g, z, lam, kappa):
    return g.op("Exp", g.op("Div", g.op("Log", g.op("Sigmoid", _inner(g, z, lam, kappa))), g.constant(lam)))


def power(g, z, lam, kappa):
    growth = g.op("Exp", g.op("Neg", g.op("Mul", z, g.constant(kappa))))
    base = g.op("Add", g.op("Mul", growth, g.constant(lam)), g.constant(1.0))
    return g.op("Pow", base, g.constant(-1 / np.asarray(lam)))


def power_reciprocal(g, z, lam, kappa):
    growth = g.op("Exp", g.op("Mul", z, g.constant(-np.asarray(kappa))))
    base = g.op("Add", g.op("Mul", growth, g.constant(lam)), g.constant(1.0))
    return g.op("Reciprocal", g.op("Pow", base, g.constant(1 / lam)))


def power_divided(g, z, lam, kappa):
    growth = g.op("Exp", g.op("Mul", z, g.constant(-np.asarray(kappa))))
    base = g.op("Add", g.constant(1.0), g.op("Mul", growth, g.constant(lam)))
    return g.op("Div", g.constant(1.0), g.op("Pow", base, g.constant(1 / lam)))


def power_of_sigmoid(g, z, lam, kappa):
    return g.op("Pow", g.op("Sigmoid", _inner(g, z, lam, kappa)), g.constant(1 / lam))


def logarithm(g, z, lam, kappa):
    growth = g.op("Exp", g.op("Neg", g.op("Mul", z, g.constant(kappa))))
    base = g.op("Add", g.op("Mul", growth, g.constant(lam)), g.constant(1.0))
    return g.op("Exp", g.op("Neg", g.op("Div", g.op("Log", base), g.constant(lam))))


def exponents_of_two(g, z, lam, kappa):
    """A kernel writer's: 2^(-log2(1 + ...)/lambda)."""
    t = g.op("Sub", g.constant(np.log(lam)), g.op("Mul", z, g.constant(kappa)))
    scaled = g.op("Mul", g.op("Softplus", t), g.constant(-1 / (np.asarray(lam) * np.log(2))))
    return g.op("Pow", g.constant(2.0), scaled)


# Name -> (builder, the smallest lambda that it can hold in float32 without losing the curve).
GENERAL = {
    "softplus, Mul and Div": softplus_mul_div,
    "softplus, Neg": softplus_neg,
    "softplus, folded": softplus_folded,
    "softplus, threshold by Greater": softplus_threshold,
    "softplus, threshold by Less": softplus_threshold_less,
    "softplus, written out": softplus_written_out,
    "Clip, Log, Reciprocal": computed_clip,
    "Relu, Add, Log": computed_relu,
    "log of Sigmoid": log_sigmoid,
    "Pow": power,
    "Reciprocal of Pow": power_reciprocal,
    "Div by Pow": power_divided,
    "Pow of Sigmoid": power_of_sigmoid,
    "Log": logarithm,
    "powers of two": exponents_of_two,
}


def sigmoid(g, z, _lam, kappa):
    return g.op("Sigmoid", g.op("Mul", z, g.constant(kappa)))


def limit(g, z, _lam, kappa):
    return g.op("Exp", g.op("Neg", g.op("Exp", g.op("Mul", z, g.constant(-np.asarray(kappa))))))


def spelled(spelling, kind, lam, kappa, opset=18, **options):
    """A model: the activation between two Transposes."""
    g = Graph(**options)
    z = g.barrier("x")
    gate = spelling(g, z, lam, kappa)
    return g.model(g.op("Mul", z, gate) if kind == "AGLU" else gate, opset)


def _head(operators):
    """A chain of (operator, constant or None) from z."""

    def build(g, z):
        for operator, constant in operators:
            z = g.op(operator, z, g.constant(constant)) if constant is not None else g.op(operator, z)
        return z

    return build


def _times_z(build):
    return lambda g, z: g.op("Mul", z, build(g, z))


def _softmax(g, z):
    axes = g.initializer(np.array([1], np.int64))
    growth = g.op("Exp", g.op("Sub", z, g.op("ReduceMax", z, axes)))
    return g.op("Div", growth, g.op("ReduceSum", growth, axes))


def _gelu_erf(g, z):
    tail = g.op("Add", g.op("Erf", g.op("Div", z, g.constant(np.sqrt(2)))), g.constant(1.0))
    return g.op("Mul", g.op("Mul", z, g.constant(0.5)), tail)


def _gelu_tanh(g, z):
    cubic = g.op("Add", z, g.op("Mul", g.op("Pow", z, g.constant(3.0)), g.constant(0.044715)))
    tail = g.op("Add", g.op("Tanh", g.op("Mul", cubic, g.constant(np.sqrt(2 / np.pi)))), g.constant(1.0))
    return g.op("Mul", z, g.op("Mul", tail, g.constant(0.5)))


def _mish_by_exp(g, z):
    e = g.op("Exp", z)
    n = g.op("Mul", e, g.op("Add", e, g.constant(2.0)))
    return g.op("Mul", z, g.op("Div", n, g.op("Add", n, g.constant(2.0))))


def _elu(g, z):
    below = g.op("Sub", g.op("Exp", g.op("Min", z, g.constant(0.0))), g.constant(1.0))
    return g.op("Where", g.op("Greater", z, g.constant(0.0)), z, below)


def _hard_swish(g, z):
    inner = g.op("Clip", g.op("Add", z, g.constant(3.0)), g.constant(0.0), g.constant(6.0))
    return g.op("Div", g.op("Mul", z, inner), g.constant(6.0))


def _logistic_by_exp(g, z):
    return g.op("Reciprocal", g.op("Add", g.op("Exp", g.op("Neg", z)), g.constant(1.0)))


LOOKALIKES = {
    "SiLU": _times_z(_head([("Sigmoid", None)])),
    "SiLU by Exp": _times_z(_logistic_by_exp),
    "QuickGELU": _times_z(_head([("Mul", 1.702), ("Sigmoid", None)])),
    "Mish": _times_z(_head([("Softplus", None), ("Tanh", None)])),
    "Mish by Exp": _mish_by_exp,
    "GELU": _gelu_erf,
    "GELU by Tanh": _gelu_tanh,
    "Softplus": _head([("Softplus", None)]),
    "Softplus by Log and Exp": _head([("Exp", None), ("Add", 1.0), ("Log", None)]),
    "ELU": _elu,
    "Elu": _head([("Elu", None)]),
    "HardSwish": _hard_swish,
    "logistic head": _head([("Sigmoid", None)]),
    "logistic head with a bias": _head([("Add", 0.3), ("Sigmoid", None)]),
    "logistic head by Exp": _logistic_by_exp,
    "logistic head by log_sigmoid": _head([("Neg", None), ("Softplus", None), ("Neg", None), ("Exp", None)]),
    "logistic head, squared": _head([("Sigmoid", None), ("Mul", 2.0), ("Pow", 2.0)]),
    "softmax": _softmax,
    "Gumbel score": _head([("Neg", None), ("Exp", None), ("Neg", None), ("Exp", None)]),
    "cloglog link": _head([("Exp", None), ("Neg", None), ("Exp", None)]),
    "Gaussian": _head([("Pow", 2.0), ("Neg", None), ("Exp", None)]),
    "hazard": _head([("Softplus", None), ("Mul", -0.5), ("Exp", None)]),
    "Gompertz": _head([("Mul", -0.7), ("Exp", None), ("Mul", -3.0), ("Exp", None)]),
    "bump": _head([("Mul", 0.9), ("Add", 9.2103405), ("Abs", None), ("Sigmoid", None), ("Pow", 1e4)]),
    "tanh-exp": _times_z(_head([("Exp", None), ("Tanh", None)])),
}
DOUBTFUL_ALONE = {"logistic head with a temperature": _head([("Mul", 0.7), ("Sigmoid", None)])}


def lookalike(build, *, in_company=False):
    """A model of something else; `in_company`: with an AGLU after it."""
    g = Graph()
    y = build(g, g.barrier("x"))
    if in_company:
        z = g.barrier(y)
        y = g.op("Mul", z, softplus_mul_div(g, z, 0.5, 0.9))
    return g.model(y)


def save_all(folder):
    """Write every spelling to `folder`: for other tools to read."""
    for name, build in GENERAL.items():
        onnx.save(spelled(build, "AGLU", 0.5, 0.9), folder / f"{name}.onnx")
