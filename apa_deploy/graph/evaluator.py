"""onnx's reference evaluation of a float64 graph, with our operators; what it lacks, ONNX Runtime computes.

MatMul (float64) -> com.microsoft::Gelu (float32, ONNX Runtime) -> MatMul (float64)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun, RuntimeContextError

from ..runtimes.ort_session import open_session
from .functions import lowest_ir_version
from .node import subgraphs
from .reference_operators import OPERATORS

Array = np.ndarray
_ABSENT = (NotImplementedError, RuntimeError, ValueError, KeyError, TypeError)
_FAILED = (*_ABSENT, IndexError, AttributeError, AssertionError)


def make_evaluator(model: onnx.ModelProto, delegated: dict[str, None] | None = None) -> ReferenceEvaluator:
    """The evaluator of `model`, whose weights it takes out of it: it holds them as arrays.

    Args:
        delegated: takes the names of operators that ONNX Runtime computes in float32 instead, those without an
            implementation now, those whose implementation fails as it runs. None: there is no such help.
    """

    if delegated is None:
        evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
    else:
        evaluator = type("Evaluator", (_Evaluator,), {"record": delegated})(model, new_ops=OPERATORS)
    del model.graph.initializer[:]
    return evaluator


class _Evaluator(ReferenceEvaluator):
    record: dict[str, None]

    def _load_impl(self, node: onnx.NodeProto, input_types: Any = None) -> Any:
        try:
            return super()._load_impl(node, input_types)
        except RuntimeContextError:
            raise
        except _ABSENT:
            self.record[_name(node)] = None
            return _Delegated

    def _init(self) -> None:
        super()._init()
        for one in self.rt_nodes_:
            if not any(subgraphs(one.onnx_node)):
                one.run = self._with_help(one, one.run)

    def _with_help(self, one: OpRun, run: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*inputs: Any, **given: Any) -> Any:
            try:
                return run(*inputs, **given)
            except _FAILED as error:
                try:
                    answer = _run_node(one.onnx_node, inputs, self.opsets)
                except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no other base in common
                    raise error from None
                self.record[_name(one.onnx_node)] = None
                return answer

        return attempt


class _Delegated(OpRun):
    op_domain = ""

    def _run(self, *inputs: Any, **_: Any) -> tuple[Array, ...]:
        try:
            return _run_node(self.onnx_node, inputs, self.run_params["opsets"])
        except Exception as error:  # as above
            raise RuntimeError((str(error).splitlines() or [type(error).__name__])[0]) from error


def _name(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _run_node(node: onnx.NodeProto, inputs: tuple[Any, ...], opsets: dict[str, int]) -> tuple[Array, ...]:
    feed = {name: _narrow(value) for name, value in zip(node.input, inputs, strict=False) if name}
    entering = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in feed.items()
    ]
    names = [name for name in node.output if name]
    graph = helper.make_graph([node], "node", entering, [onnx.ValueInfoProto(name=name) for name in names])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()])
    model.ir_version = lowest_ir_version(model)
    answers = dict(zip(names, open_session(model).run(names, feed), strict=True))
    return tuple(_widen_array(answers[name]) if name else np.empty(0) for name in node.output)


def _narrow(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _widen_array(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype in (np.float32, np.float16) else array
