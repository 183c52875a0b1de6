"""Whether the time of an execution is bounded by the shapes that a model admits, whatever a request holds.

An execution on the event loop stops everything else, so how quick the last ones were does not count: the next may
turn a loop a million times, or bring a larger image. Two things together bound it: every dimension but the batch is
fixed, and no operator's work or output size depends on values. Then a full batch took the longest that there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import onnx

from ..tensors.signature import ANY
from .signature import RequestSignature
from .warmup import largest_batch, sample

# To hand an execution to a thread and to come back takes about 0.2 ms.
_QUICK = 200e-6
_TIMES = 5

# Of the default domain: outputs of the inputs' sizes or of the weights', and equal work for equal sizes.
_BOUNDED = frozenset((
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant", "Conv",
    "Div", "Elu", "Equal", "Erf", "Exp", "Flatten", "Floor", "Gelu", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Greater", "HardSigmoid", "HardSwish", "Identity", "LayerNormalization", "LeakyRelu",
    "Less", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pow",
    "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Softmax", "Softplus", "Sqrt", "Sub", "Sum", "Tanh",
    "Transpose", "Where",
))  # fmt: skip
_OURS = "com.apa"


def is_bounded(model: onnx.ModelProto, signature: RequestSignature) -> bool:
    """Whether the largest batch of the model costs as much as any request can."""
    inner = [spec.declared[1:] if signature.max_batch else spec.declared for spec in signature.inputs]
    if any(ANY in dims for dims in inner):
        return False
    functions = {(function.domain, function.name) for function in model.functions}
    return all(
        node.domain == _OURS if node.domain else node.op_type in _BOUNDED and ("", node.op_type) not in functions
        for node in model.graph.node
    )


def is_quick(run: Callable[[Mapping[str, np.ndarray]], object], signature: RequestSignature) -> bool:
    """Whether a full batch runs in less time than it takes to wake a thread; the best of five: noise only adds."""
    rows = max(1, signature.max_batch)
    if largest_batch(signature, ()) < rows:
        return False
    inputs, times = sample(signature, rows, ()), []
    for _ in range(_TIMES):
        start = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - start)
    return min(times) < _QUICK
