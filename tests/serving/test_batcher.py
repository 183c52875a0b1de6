"""How requests wait and run together. `run` is the batcher's own parameter: here a function that can be held up."""

import asyncio
import threading

import numpy as np
import pytest

from apa_deploy.errors import InputError
from apa_deploy.serving.batcher import Batcher
from apa_deploy.serving.errors import ExecutionError, OverloadedError, RequestError, TimedOutError, UnavailableError
from apa_deploy.serving.execution import execute
from apa_deploy.serving.statistics import Statistics
from apa_deploy.serving.waiting import ClientGoneError, settle


class Doubling:
    """Doubles x, and keeps the sizes of its runs; a run waits until the gate is open."""

    def __init__(self):
        self.gate, self.sizes = threading.Event(), []
        self.gate.set()

    def __call__(self, inputs, cancellation=None):
        assert self.gate.wait(60)
        self.sizes.append(len(inputs["x"]))
        if (inputs["x"] == 13).any():
            raise InputError("13", "another number", "Take it.")
        if (inputs["x"] == 14).any():
            raise MemoryError("14")
        return {"y": inputs["x"] * 2}


def batcher(run, **changes):
    settings = {"max_batch": 4, "delay": 0.0, "instances": 1, "limit": 100, "statistics": Statistics()}
    return Batcher(run, **(settings | changes))


def rows(*values, width=1):
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


async def held_up(one, run):
    """A request that occupies the only instance until the gate opens."""
    run.gate.clear()
    future = one.submit(rows(0), 1)
    while not one.executing:
        await asyncio.sleep(0.001)
    return future


BATCHES = [
    ("singles", [1] * 8, {}, [1, 4, 4]),
    ("pairs and singles", [2, 1, 2, 2], {}, [1, 3, 4]),
    ("full ones", [4, 4], {}, [1, 4, 4]),
    ("no batching", [1, 2, 3], {"max_batch": 0}, [1, 1, 2, 3]),
]


@pytest.mark.parametrize(("counts", "changes", "sizes"), [c[1:] for c in BATCHES], ids=[c[0] for c in BATCHES])
def test_what_waits_runs_together_in_order(counts, changes, sizes):
    async def scenario():
        run = Doubling()
        one = batcher(run, **changes)
        first = await held_up(one, run)
        waiting = [one.submit(rows(*range(10 * at, 10 * at + n)), n) for at, n in enumerate(counts, 2)]
        run.gate.set()
        answers = await asyncio.gather(first, *waiting)
        for at, (n, answer) in enumerate(zip(counts, answers[1:], strict=True), 2):
            np.testing.assert_array_equal(answer["y"], rows(*range(10 * at, 10 * at + n))["x"] * 2)
        await one.wait_until_empty()
        return run.sizes

    assert asyncio.run(scenario()) == sizes


def test_requests_of_one_turn_run_together():
    async def scenario():
        run = Doubling()
        one = batcher(run)
        await asyncio.gather(*(one.submit(rows(n), 1) for n in range(3)))
        return run.sizes

    assert asyncio.run(scenario()) == [3]


@pytest.mark.parametrize("on_loop", [True, False])
def test_what_has_a_bound_needs_no_thread(on_loop):
    """Whether it has one is the model's affair (`test_cost.py`); how long it took before changes nothing."""
    threads = []

    def run(inputs, cancellation):
        threads.append(threading.current_thread() is threading.main_thread())
        return {"y": inputs["x"]}

    async def scenario():
        one = batcher(run, on_loop=on_loop)
        answers = [await one.submit(rows(n), 1) for n in range(300)]
        await one.wait_until_empty()
        return [answer["y"][0, 0] for answer in answers]

    assert asyncio.run(scenario()) == list(range(300))
    assert threads == [on_loop] * 300


class Endless:
    """Runs until it is asked to end, or, where it is `deaf`, until the gate opens."""

    def __init__(self, deaf):
        self.deaf, self.gate, self.forced = deaf, threading.Event(), threading.Event()

    def __call__(self, inputs, cancellation):
        if not self.deaf:
            cancellation.on_request(self.gate.set)
        cancellation.on_force(self.forced.set)
        assert self.gate.wait(60)
        self.gate.clear()
        return {"y": inputs["x"]}


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_a_run_that_nobody_waits_for_is_asked_to_end():
    async def scenario():
        one = batcher(run := Endless(deaf=False), timeout=60)
        one.submit(rows(1), 1).cancel()  # out of the queue before it runs
        future = one.submit(rows(2), 1)
        await until(lambda: one.executing)
        future.cancel()
        await until(lambda: not one.executing)
        return run.forced.is_set(), one.hanging

    assert asyncio.run(scenario()) == (False, 0)


def test_a_run_that_does_not_end_is_not_ready_until_it_does():
    async def scenario():
        one = batcher(run := Endless(deaf=True), timeout=0.1)
        with pytest.raises(TimedOutError):
            await settle(one.submit(rows(1), 1), 0.1)
        await until(lambda: one.hanging)
        with pytest.raises(UnavailableError, match="--isolate"):
            one.submit(rows(2), 1)
        hung, forced = one.ready, run.forced.is_set()
        run.gate.set()
        await until(lambda: not one.executing)
        run.gate.set()
        return hung, forced, one.ready, (await one.submit(rows(3), 1))["y"].item()

    assert asyncio.run(scenario()) == (False, True, True, 3)


def test_a_second_instance_serves_beside_one_that_hangs():
    async def scenario():
        one = batcher(run := Endless(deaf=True), timeout=0.1, instances=2)
        one.submit(rows(1), 1)
        await until(lambda: one.executing)
        (execution,) = one._executions
        execution.batch[0].future.cancel()
        await until(lambda: one.hanging == 1)
        second = one.submit(rows(2), 1)
        await until(lambda: one.executing == 2)
        ready = one.ready
        while not second.done():
            run.gate.set()
            await asyncio.sleep(0.01)
        return ready

    assert asyncio.run(scenario())


def test_the_delay_waits_for_a_full_batch_but_not_for_ever():
    async def scenario():
        run = Doubling()
        one = batcher(run, delay=0.2)
        early = one.submit(rows(1), 1)
        await asyncio.sleep(0.01)
        late = [one.submit(rows(n), 1) for n in range(3)]
        await asyncio.gather(early, *late)
        await one.submit(rows(9), 1)
        return run.sizes

    assert asyncio.run(scenario()) == [4, 1]


def test_other_shapes_run_apart():
    async def scenario():
        run = Doubling()
        one = batcher(run)
        first = await held_up(one, run)
        waiting = [one.submit(rows(n, width=width), 1) for n, width in ((1, 2), (2, 2), (3, 5), (4, 2))]
        run.gate.set()
        await asyncio.gather(first, *waiting)
        return run.sizes

    assert asyncio.run(scenario()) == [1, 2, 1, 1]


def test_the_queue_is_bounded_and_cancelled_requests_leave_it():
    async def scenario():
        run = Doubling()
        one = batcher(run, limit=2)
        first = await held_up(one, run)
        waiting = [one.submit(rows(n), 1) for n in range(2)]
        with pytest.raises(OverloadedError) as refused:
            one.submit(rows(5), 1)
        waiting[0].cancel()
        third = one.submit(rows(7), 1)
        run.gate.set()
        await asyncio.gather(first, waiting[1], third)
        return refused.value.retry_after, run.sizes

    retry_after, sizes = asyncio.run(scenario())
    assert retry_after >= 1
    assert sizes == [1, 2]


FAULTS = [(13, RequestError), (14, ExecutionError)]


@pytest.mark.parametrize(("value", "error"), FAULTS, ids=["the runtime refuses", "the runtime breaks"])
def test_a_request_that_fails_spoils_no_other(value, error):
    async def scenario():
        run = Doubling()
        one = batcher(run)
        return await asyncio.gather(*(one.submit(rows(n), 1) for n in (1, value, 3)), return_exceptions=True)

    good, bad, also_good = asyncio.run(scenario())
    assert isinstance(bad, error)
    assert (good["y"].item(), also_good["y"].item()) == (2, 6)


def test_outputs_without_rows_are_our_fault():
    async def scenario():
        one = batcher(lambda inputs, cancellation: {"y": np.float32(inputs["x"].sum())})
        return await asyncio.gather(*(one.submit(rows(n), 1) for n in (1, 2)), return_exceptions=True)

    # Together they cannot be told apart; alone each is what it is.
    assert [answer["y"] for answer in asyncio.run(scenario())] == [1, 2]


@pytest.mark.parametrize("rows", [[1], [3], [1, 2]])
def test_answers_do_not_hold_what_is_the_runtimes(rows):
    """An answer may wait for its client for long; ONNX Runtime's memory would grow with all of them and stay so."""
    memory = np.zeros((8, 4), np.float32)
    work = [({"x": np.zeros((count, 4), np.float32)}, count) for count in rows]
    (executed,) = execute(lambda inputs, _: {"y": memory[: len(inputs["x"])]}, work)
    assert [result["y"].shape for result in executed.results] == [(count, 4) for count in rows]
    assert not any(np.shares_memory(result["y"], memory) for result in executed.results)


def test_instances_run_at_once():
    async def scenario():
        run = Doubling()
        run.gate.clear()
        one = batcher(run, instances=2, max_batch=1)
        waiting = [one.submit(rows(n), 1) for n in range(3)]
        while one.executing < 2:
            await asyncio.sleep(0.001)
        left = one.waiting
        run.gate.set()
        await asyncio.gather(*waiting)
        return left

    assert asyncio.run(scenario()) == 1


def test_statistics():
    async def scenario():
        statistics = Statistics()
        one = batcher(Doubling(), statistics=statistics)
        await asyncio.gather(*(one.submit(rows(n, n), 2) for n in range(2)))
        await one.submit(rows(1), 1)
        return statistics.document("m", 1)

    said = asyncio.run(scenario())
    assert (said["inference_count"], said["execution_count"]) == (5, 2)
    assert [row["batch_size"] for row in said["batch_stats"]] == [1, 4]
    assert said["inference_stats"]["queue"]["count"] == said["inference_stats"]["compute_infer"]["count"] == 3


def test_a_time_limit_cancels():
    async def scenario():
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(TimedOutError):
            await settle(future, 0.01)
        return future.cancelled()

    assert asyncio.run(scenario())


@pytest.mark.parametrize("limit", [0.001, 60])
def test_a_client_that_goes_cancels(limit):
    async def scenario():
        future = asyncio.get_running_loop().create_future()
        with pytest.raises((ClientGoneError, TimedOutError)) as ended:
            await settle(future, limit, gone=lambda: asyncio.sleep(0))
        return future.cancelled(), ended.type

    assert asyncio.run(scenario()) == (True, ClientGoneError if limit == 60 else TimedOutError)
