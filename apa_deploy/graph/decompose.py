"""Replace each canonical node by standard operators, chosen by the size of its lambda.

    lambda = 1 (to 1 ulp)   Sigmoid(kappa*z)
    lambda <= 1e-7          Exp(-Exp(t)),  t = -kappa*z         the limit, exact to float32
    else, form "anl"        t = ln(lambda) - kappa*z;  w = Exp(-|t|);  s = w/(2+w)
                            Exp(Max(t,0)*(-1/lambda) + s*P(s^2))
    else, form "softplus"   Exp(Softplus(t)*(-1/lambda))        for readers of the graph

In float32 t grows by 2^9 times as much from where the gate is e^-80, so that the gate falls to 0 from there at
once: below e^-87 it would be subnormal, and such numbers cost a CPU many times as much, here and in what reads
them. A bound would not do: the most negative z times e^-80 is not 0. The unit is z times that. Constants are folded
in float64. "anl" has no Softplus and no Log, whose accuracy differs between runtimes, and ends in an Add that feeds
Exp, which is what lets TensorRT fuse the whole into the convolution before it. Half inputs are computed in float32
between two Casts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..choices import DECOMPOSITIONS
from ..errors import InputError
from ..maths import UNIT, Parameters
from .functions import FLOOR, LIMIT_LAMBDA, STEEP
from .log1p_fit import log1p_coefficients
from .node import DOMAIN, is_activation, read_parameters, subgraphs
from .values import ranks_and_types

if TYPE_CHECKING:  # torch, which a server has not
    from ..maths import Float64

HALF_TYPES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def decompose(model: onnx.ModelProto, form: str = "anl") -> onnx.ModelProto:
    """`model` itself with standard operators only; values keep their names at each activation's ends.

    Raises:
        InputError: a per-channel node's input has no known rank, or `form` is none of DECOMPOSITIONS.
    """
    if form not in DECOMPOSITIONS:
        raise InputError(f"--decomposition {form}", " or ".join(DECOMPOSITIONS), "Choose one of these.")
    _decompose(model.graph, ranks_and_types(model), form)
    _forget_domain(model)
    return model


def _decompose(graph: onnx.GraphProto, known: dict[str, tuple[int | None, int]], form: str) -> None:
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for inner in subgraphs(node):
            _decompose(inner, known, form)
        if is_activation(node):
            rank, element = known.get(node.input[0], (None, TensorProto.FLOAT))
            chain = _Chain(node, rank, element, form)
            nodes += chain.nodes
            graph.initializer.extend(chain.constants)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _forget_domain(model: onnx.ModelProto) -> None:
    functions = [f for f in model.functions if f.domain != DOMAIN]
    imports = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.functions[:]
    del model.opset_import[:]
    model.functions.extend(functions)
    model.opset_import.extend(imports)


class _Chain:
    """The nodes that take the place of one canonical node."""

    def __init__(self, node: onnx.NodeProto, rank: int | None, element: int, form: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._name = node.name or node.output[0]
        self._parameters, self._rank, self._path = read_parameters(node), rank, node.name
        half = element in HALF_TYPES
        self._dtype = np.float64 if element == TensorProto.DOUBLE else np.float32
        z = self._add("Cast", node.input[0], to=TensorProto.FLOAT) if half else node.input[0]
        gate = self._gate(z, form)
        result = self._add("Mul", z, gate) if node.op_type == UNIT else gate
        if half:
            result = self._add("Cast", result, to=element)
        self.nodes[-1].output[0] = node.output[0]

    def _gate(self, z: str, form: str) -> str:
        p = self._parameters
        lambda_, kappa = (np.asarray(v, dtype=np.float64) for v in (p.lambda_, p.kappa))
        if (np.abs(lambda_ - 1) <= np.finfo(np.float32).eps).all():
            return self._add("Sigmoid", self._scale(z, kappa))
        if (lambda_ <= LIMIT_LAMBDA).all():
            growth = self._add("Exp", self._steep(self._scale(z, -kappa), np.log([FLOOR])))
            return self._add("Exp", self._add("Neg", growth))
        return _FORMS[form](self, z, np.maximum(lambda_, LIMIT_LAMBDA), kappa)

    def anl(self, z: str, lambda_: Float64, kappa: Float64) -> str:
        rate = -1 / lambda_
        t = self._ratio(z, lambda_, kappa)
        w = self._add("Exp", self._add("Neg", self._add("Abs", t)))
        s = self._add("Div", w, self._add("Add", w, self._constant("two", np.array([2.0]))))
        series = self._horner(self._add("Mul", s, s), [c * rate for c in log1p_coefficients(4)])
        positive = self._add("Max", t, self._constant("zero", np.array([0.0])))
        head = self._add("Mul", positive, self._constant("rate", rate))
        return self._add("Exp", self._add("Add", head, self._add("Mul", s, series)))

    def softplus(self, z: str, lambda_: Float64, kappa: Float64) -> str:
        t = self._ratio(z, lambda_, kappa)
        scaled = self._add("Mul", self._add("Softplus", t), self._constant("rate", -1 / lambda_))
        return self._add("Exp", scaled)

    def _ratio(self, z: str, lambda_: Float64, kappa: Float64) -> str:
        t = self._add("Add", self._scale(z, -kappa), self._constant("log_lambda", np.log(lambda_)))
        return self._steep(t, highest_ratio(lambda_))

    def _steep(self, t: str, high: Float64) -> str:
        """t, and STEEP times as far from `high` where it is above; float64 has room."""
        if self._dtype == np.float64:
            return t
        beyond = self._add("Mul", t, self._constant("steep", np.array([STEEP])))
        return self._add("Max", t, self._add("Add", beyond, self._constant("back", (1 - STEEP) * high)))

    def _horner(self, u: str, ascending: Sequence[Float64]) -> str:
        value = self._constant(f"c{len(ascending) - 1}", ascending[-1])
        for i in range(len(ascending) - 2, -1, -1):
            value = self._add("Add", self._add("Mul", value, u), self._constant(f"c{i}", ascending[i]))
        return value

    def _scale(self, z: str, factor: Float64) -> str:
        return z if (factor == 1).all() else self._add("Mul", z, self._constant("kappa", factor))

    def _constant(self, name: str, values: Float64) -> str:
        array = values.astype(self._dtype).reshape(self._shape(values.size))
        full = f"{self._name}/{name}"
        self.constants.append(numpy_helper.from_array(array, full))
        return full

    def _shape(self, count: int) -> tuple[int, ...]:
        if count == 1:
            return ()
        if self._rank is None:
            raise InputError(
                f"node {self._path!r} with {count} values along axis {self._parameters.axis}",
                "an input of known rank",
                "Run onnx.shape_inference on the model first.",
            )
        axis = self._parameters.axis
        if not -self._rank <= axis < self._rank:
            saw = f"node {self._path!r} with axis {axis} of {self._rank} axes"
            raise InputError(saw, "the axis of its channels", "Export the model again.")
        shape = [1] * self._rank
        shape[axis] = count
        return tuple(shape)

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{self._name}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output


def highest_ratio(lambda_: Float64) -> Float64:
    """The t = ln(lambda) - kappa*z at which the gate is e^-FLOOR: ln(expm1(FLOOR*lambda))."""
    power = FLOOR * lambda_
    return np.asarray(power + np.log(-np.expm1(-power)), np.float64)


_FORMS: dict[str, Callable[[_Chain, str, Float64, Float64], str]] = {
    "anl": _Chain.anl,
    "softplus": _Chain.softplus,
}


def decomposition_of(parameters: Parameters) -> str:
    """Which form `decompose` picks by default: "sigmoid", "limit" or "anl". For tables and passports."""
    lambda_ = np.asarray(parameters.lambda_)
    if (np.abs(lambda_ - 1) <= np.finfo(np.float32).eps).all():
        return "sigmoid"
    return "limit" if (lambda_ <= LIMIT_LAMBDA).all() else "anl"
