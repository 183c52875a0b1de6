"""A request that is refused is gone with its answer: nothing waits for the garbage collector, which is rare."""

import asyncio
import contextlib
import gc
import time
import weakref
from collections import Counter
from types import SimpleNamespace
from typing import ClassVar

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from apa_deploy.serving.budget import Budget
from apa_deploy.serving.callers import Callers
from apa_deploy.serving.errors import ExecutionError, NotFoundError, TimedOutError
from apa_deploy.serving.execution import execute
from apa_deploy.serving.grpc_app import operation
from apa_deploy.serving.grpc_calls import Calls
from apa_deploy.serving.waiting import settle


@pytest.fixture(autouse=True)
def no_collector():
    gc.disable()
    yield
    gc.enable()


class Message:
    """Unlike protobuf's, it can be watched."""

    seen: ClassVar[list] = []

    @classmethod
    def FromString(cls, data):  # noqa: N802
        if data == b"malformed":
            raise DecodeError("no message")
        cls.seen.append(weakref.ref(message := cls()))
        return message


@operation
async def answer(app, request, context):
    if app.error:
        raise app.error()
    return pb.ServerLiveResponse(live=True)


def app_that_raises(error):
    names = ("check_token", "check_open", "record")
    log = SimpleNamespace(error=lambda *_, **__: None)
    app = SimpleNamespace(service=SimpleNamespace(accepted=0), log=log, error=error)
    return SimpleNamespace(**vars(app), **dict.fromkeys(names, lambda *_: None))


async def call_and_watch(error, message):
    """The code of a call, and what is left of its message."""
    app, calls = app_that_raises(error), Calls(8, 60, Counter(), Callers(Budget(1 << 20), 1 << 20, 60))
    handler = calls.handle_unary(
        lambda request, context: answer(app, request, context), Message, pb.ServerLiveResponse
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    Message.seen.clear()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/test.Service/Call")(message)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call
        code, end = await call.code(), time.monotonic() + 30
        while any(one() for one in Message.seen) and time.monotonic() < end:  # the handler ends after its answer
            await asyncio.sleep(0.01)
        left = [one() for one in Message.seen if one()]
    await server.stop(0)
    return code, left


CASES = [
    ("refused", lambda: NotFoundError("a", "b", "c"), b"", "NOT_FOUND"),
    ("a fault", RuntimeError, b"", "INTERNAL"),
    ("answered", None, b"", "OK"),
    ("malformed", None, b"malformed", "INVALID_ARGUMENT"),
]


@pytest.mark.parametrize(("error", "message", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_message_over_grpc(error, message, code):
    assert asyncio.run(call_and_watch(error, message)) == (grpc.StatusCode[code], [])


@pytest.mark.parametrize("fails", [False, True], ids=["timed out", "failed"])
def test_what_waited_for_a_result(fails):
    def result():
        future = asyncio.get_running_loop().create_future()
        if fails:
            future.set_exception(ExecutionError("a", "b", "c"))
        watched.append(weakref.ref(future))
        return future

    async def wait(request):
        watched.append(weakref.ref(request))
        await settle(result(), 0.0)

    async def run():
        with contextlib.suppress(TimedOutError, ExecutionError):
            await wait(np.zeros(4))

    watched = []
    asyncio.run(run())
    assert [one() is None for one in watched] == [True, True]


def test_inputs_of_an_execution_that_failed():
    def run(inputs, cancellation):
        raise ExecutionError("a", "b", "c")

    array = np.zeros(4)
    watched = weakref.ref(array)
    execute(run, [({"x": array}, 1)])
    del array
    assert watched() is None
