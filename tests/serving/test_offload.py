"""Large JSON in its process: within the time limit, for clients that are there, and though the process ends."""

import asyncio
import contextlib
import json
import os
import signal
import threading

import numpy as np
import pytest

from apa_deploy.child_process import ChildError
from apa_deploy.serving import offload
from apa_deploy.serving.errors import ExecutionError, TimedOutError
from apa_deploy.serving.offload import LARGE_BYTES, Codec
from apa_deploy.serving.waiting import ClientGoneError

TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
LARGE = json.dumps({"inputs": [TENSOR], "parameters": {"pad": "x" * LARGE_BYTES}}).encode()
LONG = 300.0  # seconds


async def here():
    await asyncio.Event().wait()


async def gone():
    pass


def decode(codec, limit=LONG, client=here):
    return codec.decode(LARGE, None, None, limit, client)


def test_a_process_that_was_stopped_or_killed_is_replaced():
    async def run():
        await decode(codec)
        os.kill(codec._child.pid, signal.SIGSTOP)
        with pytest.raises(TimedOutError):
            await decode(codec, 0.1)
        await decode(codec)
        os.kill(codec._child.pid, signal.SIGKILL)
        codec._child._process.wait()
        return await decode(codec)

    codec = Codec()
    try:
        np.testing.assert_array_equal(asyncio.run(run()).inputs["x"], [[1, 2, 3, 4]])
    finally:
        codec.close()


class FakeChild:
    """A process that answers nothing until it is ended; those in `answering` do."""

    started, answering = [], ()

    def __init__(self, target):
        self.asked, self._ended = threading.Event(), threading.Event()
        self.started.append(self)

    @property
    def is_running(self):
        return not self._ended.is_set()

    def call(self, *arguments):
        self.asked.set()
        if len(self.started) not in self.answering:
            self._ended.wait(LONG)
            raise ChildError("it was ended", "an answer", "Ask again.")
        return "answer"

    def kill(self):
        self._ended.set()

    close = kill


@pytest.fixture
def children(monkeypatch):
    monkeypatch.setattr(FakeChild, "started", [])
    monkeypatch.setattr(FakeChild, "answering", ())
    monkeypatch.setattr(offload, "Child", FakeChild)
    return FakeChild


@pytest.mark.parametrize(
    ("limit", "client", "error"), [(0.0, here, TimedOutError), (LONG, gone, ClientGoneError)], ids=["late", "gone"]
)
def test_who_waits_for_the_process_does_not_come_to_a_turn(children, limit, client, error):
    async def run():
        codec = Codec()
        first = asyncio.ensure_future(decode(codec))
        while not (children.started and children.started[0].asked.is_set()):
            await asyncio.sleep(0.01)
        with pytest.raises(error):
            await decode(codec, limit, client)
        assert len(children.started) == 1 and not first.done()
        children.answering = (2,)
        first.cancel()
        return await decode(codec)

    assert asyncio.run(run()) == "answer"
    assert len(children.started) == 2


def test_what_runs_for_a_client_that_left_is_ended(children):
    async def run():
        codec = Codec()
        with pytest.raises(ClientGoneError):
            await decode(codec, client=gone)
        children.answering = (1, 2)
        return await decode(codec)

    assert asyncio.run(run()) == "answer"


def test_a_process_that_is_still_starting_is_ended_as_well(children, monkeypatch):
    may_start, starting = threading.Event(), threading.Event()

    class SlowChild(FakeChild):
        def __init__(self, target):
            starting.set()
            may_start.wait(LONG)
            super().__init__(target)

    async def run():
        codec = Codec()
        first = asyncio.ensure_future(decode(codec))
        await asyncio.to_thread(starting.wait, LONG)
        codec.close()
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        may_start.set()
        children.answering = (2,)
        return await decode(codec)

    monkeypatch.setattr(offload, "Child", SlowChild)
    assert asyncio.run(run()) == "answer"
    assert [child.is_running for child in children.started] == [False, True]


def test_a_process_that_does_not_start_is_tried_again(children, monkeypatch):
    def fail(target):
        raise ChildError("no memory", "a process", "Free some.")

    async def run():
        codec = Codec()
        monkeypatch.setattr(offload, "Child", fail)
        with pytest.raises(ExecutionError, match="no memory"):
            await decode(codec)
        monkeypatch.setattr(offload, "Child", FakeChild)
        children.answering = (1,)
        return await decode(codec)

    assert asyncio.run(run()) == "answer"
