"""Dynamic batching: requests wait in one bounded queue and run together, as many rows as fit.

A free instance takes what waits. Where that is less than a full batch, it waits for more until the oldest request
has waited for the delay; with a delay of 0, batches form only while every instance is busy. Only requests of equal
shape behind the batch axis run together. Everything but the execution happens on the event loop, and an execution
only where its cost has a proven bound below what waking a thread takes (`cost.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..runtimes.cancellation import Cancellation
from .errors import OverloadedError, UnavailableError
from .execution import Executed, Instance, Run, execute
from .statistics import Statistics

Arrays = Mapping[str, np.ndarray]

_LOOK = 0.25  # seconds between two looks at executions that take long
_GRACE = 1.0  # seconds beyond the time limit within which a run that was asked to end should have ended


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue. `arrived`: nanoseconds of the performance counter."""

    inputs: Arrays
    rows: int
    shape: tuple[tuple[int, ...], ...]
    future: asyncio.Future[dict[str, np.ndarray]]
    arrived: int


@dataclass(slots=True, eq=False)
class Execution:
    """What an instance is at. `hangs`: nobody waits for it any more, its time is up, and it does not end."""

    batch: Sequence[Waiting]
    instance: Instance
    started: float = field(default_factory=time.monotonic)
    cancellation: Cancellation = field(default_factory=Cancellation)
    hangs: bool = False


class Batcher:
    """The queue before one model.

    Args:
        run: executes arrays; called on at most `instances` threads at once.
        max_batch: rows an execution takes; 0: each request runs alone.
        delay: seconds for which a request may wait for others.
        limit: requests that may wait.
        statistics: where executions are counted.
        timeout: seconds; the longest that anybody waits for an execution.
        on_loop: run on the event loop. Only for what cannot take longer than a thread's wake-up, whatever is sent.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch: int,
        delay: float,
        instances: int,
        limit: int,
        statistics: Statistics,
        timeout: float = 60.0,
        on_loop: bool = False,
    ) -> None:
        self._run, self._max_batch, self._delay = run, max_batch, delay
        self.limit, self._statistics, self._timeout = limit, statistics, timeout
        self._on_loop = on_loop
        self._waiting: deque[Waiting] = deque()
        self._instances = instances
        self._idle = [Instance() for _ in range(instances)]
        self._executions: set[Execution] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._looking = self._due = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def executing(self) -> int:
        """Instances at work."""
        return self._instances - len(self._idle)

    @property
    def hanging(self) -> int:
        """Instances that do not come back from an execution, though its time is up and nobody waits for it."""
        return sum(execution.hangs for execution in self._executions)

    @property
    def ready(self) -> bool:
        """Whether an instance is there, or at work and due back."""
        return self.hanging < self._instances

    def submit(self, inputs: Arrays, rows: int) -> asyncio.Future[dict[str, np.ndarray]]:
        """Queue a request that fits the model; cancelling the future takes it out again.

        Raises:
            OverloadedError: the queue is full.
            UnavailableError: every instance hangs.
        """
        if not self.ready:
            saw = f"{self._instances} instances, all in executions that do not end"
            raise UnavailableError(saw, "one that ends", "Restart the server; apa-serve --isolate replaces such.")
        if len(self._waiting) >= self.limit:
            self._forget_abandoned()
        if len(self._waiting) >= self.limit:
            raise OverloadedError(f"a queue of {self.limit} requests", "a free place", self._seconds_to_drain())
        future = asyncio.get_running_loop().create_future()
        shape = tuple(array.shape[1:] for array in inputs.values()) if self._max_batch else ()
        self._waiting.append(Waiting(inputs, rows, shape, future, time.perf_counter_ns()))
        self._empty.clear()
        self._start_soon()
        return future

    async def wait_until_empty(self) -> None:
        """Return when nothing waits and nothing runs."""
        await self._empty.wait()

    def close(self) -> None:
        """Let the threads end, each when its execution does."""
        for instance in [*self._idle, *(execution.instance for execution in self._executions)]:
            instance.close()

    def _start_soon(self) -> None:
        """Start after what the event loop has at hand: requests that arrived together run together."""
        if self._idle and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._start_what_can)

    def _start_what_can(self) -> None:
        self._due = False
        while self._idle and self._waiting:
            batch, complete = self._head()
            if not batch:
                continue
            age = (time.perf_counter_ns() - batch[0].arrived) / 1e9
            if not complete and age < self._delay:
                self._look_again(self._delay - age)
                return
            for _ in batch:
                self._waiting.popleft()
            self._start(batch)
        if not self._waiting and not self._executions:
            self._empty.set()

    def _head(self) -> tuple[list[Waiting], bool]:
        """The requests at the head that fit together, and whether no later one could join them."""
        while self._waiting and self._waiting[0].future.done():  # cancelled while it waited
            self._waiting.popleft()
        batch: list[Waiting] = []
        rows = 0
        for waiting in self._waiting:
            if batch and (waiting.shape != batch[0].shape or rows + waiting.rows > self._max_batch):
                return batch, True
            batch.append(waiting)
            rows += waiting.rows
        return batch, rows >= self._max_batch

    def _look_again(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._timer_rang)

    def _timer_rang(self) -> None:
        self._timer = None
        self._start_what_can()

    def _start(self, batch: Sequence[Waiting]) -> None:
        batch = [waiting for waiting in batch if not waiting.future.done()]
        if not batch:
            return
        now = time.perf_counter_ns()
        for waiting in batch:
            self._statistics.queue.add(now - waiting.arrived)
        work = [(waiting.inputs, waiting.rows) for waiting in batch]
        loop = asyncio.get_running_loop()
        execution = Execution(batch, self._idle.pop())
        self._executions.add(execution)
        if self._on_loop:
            loop.call_soon(self._finish, execution, execute(self._run, work))
            return
        execution.instance.submit(lambda: self._execute(loop, execution, work))
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK, self._look_at_executions)

    def _execute(
        self, loop: asyncio.AbstractEventLoop, execution: Execution, work: Sequence[tuple[Arrays, int]]
    ) -> None:
        """On an instance's thread. A future of the event loop would cost more than many a model does."""
        done = execute(self._run, work, execution.cancellation)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._finish, execution, done)

    def _look_at_executions(self) -> None:
        """Ask runs that nobody waits for to end; by force, once they are over every time limit."""
        for execution in self._executions:
            if not all(waiting.future.done() for waiting in execution.batch):
                continue
            if not execution.cancellation.is_requested:
                execution.cancellation.request()
            over = time.monotonic() - execution.started - self._timeout
            if over > 0 and not execution.cancellation.is_forced:
                execution.cancellation.force()
            execution.hangs = over > _GRACE
        self._looking = bool(self._executions)
        if self._looking:
            asyncio.get_running_loop().call_later(_LOOK, self._look_at_executions)

    def _finish(self, execution: Execution, done: list[Executed]) -> None:
        self._executions.discard(execution)
        self._idle.append(execution.instance)
        for executed in done:
            if not isinstance(executed.results[0], Exception):
                self._statistics.add_execution(executed.rows, len(executed.results), executed.times)
        results = [result for executed in done for result in executed.results]
        for waiting, result in zip(execution.batch, results, strict=True):
            if waiting.future.done():  # cancelled while it ran
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
        self._start_soon()

    def _forget_abandoned(self) -> None:
        self._waiting = deque(waiting for waiting in self._waiting if not waiting.future.done())

    def _seconds_to_drain(self) -> int:
        """Whole seconds until the queue should be empty, by the executions so far; from 1 to 60."""
        requests = self._statistics.phases.compute_infer
        if not requests.count:
            return 1
        mean = requests.ns / requests.count / 1e9
        executions = len(self._waiting) * self._statistics.executions / requests.count
        return max(1, min(60, round(mean * executions / self._instances)))
