"""Elementwise operators in float64: what recognition runs a piece of a graph with.

Every float type is computed in float64 and a Cast between float types changes nothing, so that the answer
is what the graph means, not how its number type rounds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
# The standard domain has two names.
STANDARD = ("", "ai.onnx")


class UnknownError(Exception):
    """An operator, or a form of it, that is not in the table. Never leaves this package."""


def _cast(x: Array, to: int, **_: Any) -> Array:
    if to in FLOATS:
        return np.asarray(x, dtype=np.float64)
    return np.asarray(x).astype(helper.tensor_dtype_to_np_dtype(to))


def _cast_like(x: Array, other: Array) -> Array:
    return np.asarray(x, dtype=np.float64) if other.dtype.kind == "f" else np.asarray(x).astype(other.dtype)


def _code(x: Array, *_: Array | None, **__: Any) -> Array:
    """A number as its code, unrounded: recognition asks what a graph means."""
    return x


def _decode(x: Array, scale: Array, zero: Array | None = None, **_: Any) -> Array:
    if x.dtype.kind == "f":  # from `_code`
        return x
    if scale.size > 1:
        raise UnknownError("a scale for each channel")
    return (x.astype(np.float64) - (0 if zero is None else zero)) * scale


def _clip(x: Array, low: Array | None = None, high: Array | None = None, **limits: float) -> Array:
    low = limits.get("min") if low is None else low  # type: ignore[assignment]
    high = limits.get("max") if high is None else high  # type: ignore[assignment]
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def _gelu(x: Array, approximate: bytes = b"none") -> Array:
    if approximate == b"tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _divide(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        raise UnknownError("integer division")
    return a / b


def _variadic(operator: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda *inputs: reduce(operator, inputs)


ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Identity": lambda x: x,
    "Cast": _cast,
    "Neg": np.negative,
    "Abs": np.abs,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Reciprocal": lambda x: 1 / x,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": _sigmoid,
    "Softplus": lambda x: np.logaddexp(0, x),
    "Tanh": np.tanh,
    "Erf": _erf,
    "Gelu": _gelu,
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "Swish": lambda x, alpha=1.0: x * _sigmoid(alpha * x),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x: x * _hard_sigmoid(x, 1 / 6),
    "LeakyRelu": lambda x, alpha=0.01: np.where(x < 0, alpha * x, x),
    "Elu": _elu,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Clip": _clip,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Pow": np.power,
    "Max": _variadic(np.maximum),
    "Min": _variadic(np.minimum),
    "Sum": _variadic(np.add),
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Where": np.where,
}


QUANTISERS = {"QuantizeLinear", "DequantizeLinear"}
# Elementwise in their first input, whatever the shape of the others.
_PASSING: dict[str, Callable[..., Array]] = {
    "CastLike": _cast_like,
    "QuantizeLinear": _code,
    "DequantizeLinear": _decode,
}


def _squeeze(x: Array, axes: Array | None = None, **attributes: Any) -> Array:
    given = attributes.get("axes") if axes is None else axes.tolist()
    return np.squeeze(x, None if given is None else tuple(int(a) for a in given))


def _unsqueeze(x: Array, axes: Array | None = None, **attributes: Any) -> Array:
    given = attributes["axes"] if axes is None else axes.tolist()
    return np.expand_dims(x, tuple(int(a) for a in np.atleast_1d(given)))


def _reshape(x: Array, shape: Array, allowzero: int = 0) -> Array:
    sizes = [x.shape[i] if size == 0 and not allowzero else int(size) for i, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _constant_of_shape(shape: Array, value: onnx.TensorProto | None = None) -> Array:
    fill = np.zeros(1) if value is None else numpy_helper.to_array(value)
    fill = fill.astype(np.float64) if value is None or value.data_type in FLOATS else fill
    return np.full(shape.tolist(), fill[0])


# What a parameter may pass through on its way, besides the elementwise operators.
SHAPING: dict[str, Callable[..., Array]] = {
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": lambda x, shape: x * np.ones(shape.tolist(), dtype=x.dtype),
    "ConstantOfShape": _constant_of_shape,
    "Transpose": lambda x, perm=None: np.transpose(x, perm),
    "Flatten": lambda x, axis=1: x.reshape(int(np.prod(x.shape[:axis])), -1),
}


def is_elementwise(node: onnx.NodeProto) -> bool:
    """Whether `node` computes each element of its one output from the same element of its inputs."""
    return node.domain in STANDARD and node.op_type in ELEMENTWISE and len(node.output) == 1


def may_be_cut(node: onnx.NodeProto) -> bool:
    """Whether a piece of a curve may hold `node`."""
    return is_elementwise(node) or (node.domain in STANDARD and node.op_type in _PASSING)


def evaluate_node(node: onnx.NodeProto, inputs: list[Array | None]) -> Array:
    """The output of `node`; an absent optional input is None.

    Raises:
        UnknownError: the operator is not in the tables, or does not work on these inputs.
    """
    function = ELEMENTWISE.get(node.op_type) or SHAPING.get(node.op_type) or _PASSING.get(node.op_type)
    if function is None or node.domain not in STANDARD:
        raise UnknownError(node.op_type)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    try:
        with np.errstate(all="ignore"):
            return np.asarray(function(*inputs, **attributes))
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise UnknownError(f"{node.op_type}: {error}") from error
