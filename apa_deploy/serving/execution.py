"""One execution of several requests: rows joined, run, and cut apart again. Runs on an instance's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from ..errors import ApaError
from ..runtimes.cancellation import Cancellation
from .errors import ExecutionError, RequestError, ServingError

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays, Cancellation | None], dict[str, np.ndarray]]
Result = dict[str, np.ndarray] | Exception


class Instance:
    """A thread that executes for one model. A daemon: an execution that hangs must not keep the process alive."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="apa-instance", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which does not raise, on the thread."""
        self._work.put(work)

    def close(self) -> None:
        """End the thread when it has done its work."""
        self._work.put(None)

    def _loop(self) -> None:
        while work := self._work.get():
            work()


@dataclass(slots=True)
class Executed:
    """`results` in the order of the requests; `times`: nanoseconds of joining, running and cutting."""

    rows: int
    results: list[Result]
    times: tuple[int, int, int]


def execute(
    run: Run, work: Sequence[tuple[Arrays, int]], cancellation: Cancellation | None = None
) -> list[Executed]:
    """Run requests, each with its number of rows, together. Never raises: a failure is a result.

    Where they fail together, each runs alone, so that one request cannot spoil its neighbours.
    """
    executed = _run_together(run, work, cancellation)
    if len(work) > 1 and isinstance(executed.results[0], Exception):
        if cancellation and cancellation.is_requested:  # nobody waits for any of them
            return [executed]
        return [_run_together(run, [one], cancellation) for one in work]
    return [executed]


def _run_together(run: Run, work: Sequence[tuple[Arrays, int]], cancellation: Cancellation | None) -> Executed:
    rows = [count for _, count in work]
    start = time.perf_counter_ns()
    joined = ran = start
    try:
        inputs = _join([arrays for arrays, _ in work])
        joined = time.perf_counter_ns()
        outputs = run(inputs, cancellation)
        ran = time.perf_counter_ns()
        results: list[Result] = list(_cut(outputs, rows))
    except Exception as error:  # noqa: BLE001  whatever a runtime raises is this request's answer
        results = [_refusal(error)] * len(work)
    return Executed(sum(rows), results, (joined - start, ran - joined, time.perf_counter_ns() - ran))


def _join(requests: Sequence[Arrays]) -> Arrays:
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([arrays[name] for arrays in requests]) for name in requests[0]}


def _cut(outputs: dict[str, np.ndarray], rows: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Each request's outputs, as copies: the runtime's own memory, which never shrinks, is free again at once."""
    if len(rows) == 1:
        return [{name: array if array.flags.owndata else array.copy() for name, array in outputs.items()}]
    short = [name for name, array in outputs.items() if array.ndim == 0 or len(array) != sum(rows)]
    if short:
        saw = f"output {short[0]} of shape {list(outputs[short[0]].shape)} for {sum(rows)} rows"
        raise ExecutionError(saw, "one row for each", "Serve the model with --max-batch 0.")
    ends = np.cumsum(rows)
    return [
        {name: array[end - count : end].copy() for name, array in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def _refusal(error: Exception) -> Exception:
    """The runtime's own refusal of a shape or value is the request's fault; anything else is ours."""
    if isinstance(error, ServingError):
        return error.with_traceback(None)  # whose frames hold on to the result, which is this error
    if isinstance(error, ApaError):
        return RequestError(error.saw, error.wanted, error.do)
    return ExecutionError(f"{type(error).__name__}: {error}", "a result", "See the server's log.")
