"""Loop and Scan as ONNX defines them; onnx.reference has both in part.

Loop: a condition that is left out is true, scan outputs are stacked along a new axis, also of no iteration at all.
Scan: any axis, either direction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference.op_run import OpRun

Array = np.ndarray
_MOST_TURNS = 100_000  # a minute of Python; what turns more often, ONNX Runtime computes
_FIRST_SCAN = 9  # before it Scan had a batch of its own


class Loop(OpRun):
    """The spec's Loop, over any number of carried values and scan outputs."""

    op_domain = ""

    def need_context(self) -> bool:
        """A body reads the values around it."""
        return True

    def _run(
        self,
        count: Any = None,
        go_on: Any = None,
        *carried: Any,
        context: Any = None,
        bindings: Any = None,
        **_: Any,
    ) -> tuple[Any, ...]:
        body: Any = self.body  # type: ignore[attr-defined]
        names, states = body.input_names, list(carried)
        rows: list[list[Any]] = []
        most = np.inf if count is None else int(np.asarray(count).item())
        going = go_on is None or bool(np.asarray(go_on).item())
        while going and len(rows) < most:
            if len(rows) == _MOST_TURNS:
                raise RuntimeError(f"a Loop of more than {_MOST_TURNS:,} turns")
            fed = [np.array(len(rows), np.int64), np.array(going), *states]
            answers = _run_body(self, context, dict(zip(names, fed, strict=True)), bindings)
            going, states = bool(np.asarray(answers[0]).item()), answers[1 : 1 + len(carried)]
            rows.append(answers[1 + len(carried) :])
        scanned = _stack(rows, body.onnx_graph_.output[1 + len(carried) :])
        return self._check_and_fix_outputs((*states, *scanned))


class Scan(OpRun):
    """The spec's Scan."""

    op_domain = ""

    def need_context(self) -> bool:
        """A body reads the values around it."""
        return True

    def _run(self, *given: Any, context: Any = None, bindings: Any = None, **attributes: Any) -> tuple[Any, ...]:
        if self.run_params["opsets"][""] < _FIRST_SCAN:
            raise NotImplementedError("Scan of opset 8")
        body: Any = self.body  # type: ignore[attr-defined]
        carried = len(given) - attributes["num_scan_inputs"]
        states, rows = list(given[:carried]), []
        entering = [
            np.moveaxis(np.asarray(value), axis, 0)[:: -1 if backwards else 1]
            for value, axis, backwards in zip(
                given[carried:],
                _each(attributes.get("scan_input_axes"), len(given) - carried),
                _each(attributes.get("scan_input_directions"), len(given) - carried),
                strict=True,
            )
        ]
        for row in zip(*entering, strict=True):
            answers = _run_body(self, context, dict(zip(body.input_names, (*states, *row), strict=True)), bindings)
            states = answers[:carried]
            rows.append(answers[carried:])
        stacked = _stack(rows, body.onnx_graph_.output[carried:])
        axes = _each(attributes.get("scan_output_axes"), len(stacked))
        directions = _each(attributes.get("scan_output_directions"), len(stacked))
        scanned = (
            np.moveaxis(value[:: -1 if backwards else 1], 0, axis)
            for value, axis, backwards in zip(stacked, axes, directions, strict=True)
        )
        return self._check_and_fix_outputs((*states, *scanned))


def _run_body(node: Any, context: Any, fed: dict[str, Any], bindings: Any) -> list[Any]:
    return list(node._run_body({**(context or {}), **fed}, bindings=bindings))


def _each(given: Any, count: int) -> list[int]:
    return list(given) if given else [0] * count


def _stack(rows: list[Any], declared: Any) -> list[Array]:
    """One array a scan output; of no iteration an empty one of the shape that the body declares."""
    if rows:
        return [np.stack(column) for column in zip(*rows, strict=True)]
    return [_empty(value.type.tensor_type) for value in declared]


def _empty(tensor: onnx.TypeProto.Tensor) -> Array:
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else np.float64
    return np.empty((0, *(dim.dim_value for dim in tensor.shape.dim)), dtype)
