"""One execution of several requests: rows joined, run, and cut apart again. Runs on an instance's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ApaError
from .errors import ExecutionError, RequestError

Arrays = Mapping[str, np.ndarray]
Result = dict[str, np.ndarray] | Exception


@dataclass(slots=True)
class Executed:
    """`results` in the order of the requests; `times`: nanoseconds of joining, running and cutting."""

    rows: int
    results: list[Result]
    times: tuple[int, int, int]


def execute(run: Callable[[Arrays], dict[str, np.ndarray]], work: Sequence[tuple[Arrays, int]]) -> list[Executed]:
    """Run requests, each with its number of rows, together. Never raises: a failure is a result.

    Where they fail together, each runs alone, so that one request cannot spoil its neighbours.
    """
    executed = _together(run, work)
    if len(work) > 1 and isinstance(executed.results[0], Exception):
        return [_together(run, [one]) for one in work]
    return [executed]


def _together(run: Callable[[Arrays], dict[str, np.ndarray]], work: Sequence[tuple[Arrays, int]]) -> Executed:
    rows = [count for _, count in work]
    start = time.perf_counter_ns()
    joined = ran = start
    try:
        inputs = _joined([arrays for arrays, _ in work])
        joined = time.perf_counter_ns()
        outputs = run(inputs)
        ran = time.perf_counter_ns()
        results: list[Result] = list(_cut(outputs, rows))
    except Exception as error:  # noqa: BLE001  whatever a runtime raises is this request's answer
        results = [_refusal(error)] * len(work)
    return Executed(sum(rows), results, (joined - start, ran - joined, time.perf_counter_ns() - ran))


def _joined(requests: Sequence[Arrays]) -> Arrays:
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([arrays[name] for arrays in requests]) for name in requests[0]}


def _cut(outputs: dict[str, np.ndarray], rows: Sequence[int]) -> list[dict[str, np.ndarray]]:
    if len(rows) == 1:
        return [outputs]
    short = [name for name, array in outputs.items() if array.ndim == 0 or len(array) != sum(rows)]
    if short:
        saw = f"output {short[0]} of shape {list(outputs[short[0]].shape)} for {sum(rows)} rows"
        raise ExecutionError(saw, "one row for each", "Serve the model with --max-batch 0.")
    ends = np.cumsum(rows)
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def _refusal(error: Exception) -> Exception:
    """The runtime's own refusal of a shape or value is the request's fault; anything else is ours."""
    if isinstance(error, ExecutionError | RequestError):
        return error
    if isinstance(error, ApaError):
        return RequestError(error.saw, error.wanted, error.do)
    return ExecutionError(f"{type(error).__name__}: {error}", "a result", "See the server's log.")
