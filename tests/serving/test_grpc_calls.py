"""Open calls over gRPC: idle ones make room, probes have their own places, and a drain waits for none of them."""

import asyncio
import contextlib
import itertools

import grpc
import numpy as np
import pytest
from serving_models import loop_model, small_model
from serving_process import ServerProcess
from socket_clients import connect, wait_until
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from apa_deploy.serving.connections import RESERVE

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
LIVE = "/inference.GRPCInferenceService/ServerLive"
SERVING = b"\x08\x01"
FEW = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small_model(folder / "act.onnx")
    loop_model(folder / "loop.onnx")
    with ServerProcess(folder, "--max-connections", FEW, "--threads", 1, "--request-timeout", 6) as process:
        yield process


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.grpc) as one:
        yield one


def infer(channel, model="act", turns=4.0):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    request = pb.ModelInferRequest(model_name=model, inputs=[tensor])
    request.raw_input_contents.append(np.array([1, 2, 3, turns], np.float32).tobytes())
    return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request, timeout=60)


def ask(channel, path, message=b""):
    return channel.unary_unary(path)(message, timeout=60)


IDLE = [
    ("calls without a message", INFER, FEW),
    ("streams", STREAM, FEW),
    ("probes without a message", CHECK, RESERVE),
    ("watches without a message", WATCH, 256),
]


@contextlib.asynccontextmanager
async def idle_calls(server, path, count):
    """Calls whose message does not come."""
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        calls = [channel.stream_stream(path)() for _ in range(count)]
        yield calls
        for call in calls:
            call.cancel()


@pytest.mark.parametrize(("path", "places"), [c[1:] for c in IDLE], ids=[c[0] for c in IDLE])
def test_idle_calls_make_room(server, channel, path, places):
    async def run():
        async with idle_calls(server, path, 300) as calls:
            codes = [asyncio.ensure_future(call.code()) for call in calls]
            ended = [await code for code in itertools.islice(asyncio.as_completed(codes, timeout=60), 300 - places)]
            assert set(ended) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            await asyncio.to_thread(assert_serves, channel)
            assert sum(code.done() for code in codes) <= 300 - places + 3  # those calls took places as well

    asyncio.run(run())


def assert_serves(channel):
    assert ask(channel, CHECK) == SERVING
    assert ask(channel, LIVE)
    assert infer(channel).result().outputs


def test_calls_at_work_leave_room_for_probes(server, channel):
    busy = [infer(channel, "loop", 9e9) for _ in range(FEW)]
    wait_until(lambda: server.metric("apa_queue_requests") + server.metric("apa_executing") >= 2)
    refused = infer(channel)
    while refused.code() is grpc.StatusCode.OK and not busy[-1].done():  # the last of them may not have come yet
        refused = infer(channel)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"{FEW} calls" in refused.details()
    assert int(dict(refused.trailing_metadata())["retry-after"]) >= 1
    assert ask(channel, CHECK) == SERVING
    assert ask(channel, LIVE)
    assert {call.code() for call in busy} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert infer(channel).result().outputs


def test_watches_are_bounded_and_take_no_place_of_others(server, channel):
    watches = [channel.unary_stream(WATCH)(b"") for _ in range(300)]
    assert next(watches[0]) == SERVING
    wait_until(lambda: sum(not watch.is_active() for watch in watches) == 300 - 256)
    assert {watch.code() for watch in watches if not watch.is_active()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert_serves(channel)
    for watch in watches:
        watch.cancel()


@pytest.mark.parametrize("path", [INFER, LIVE, CHECK, WATCH])
@pytest.mark.parametrize("messages", [[b"\xff"], []], ids=["one that cannot be read", "none"])
def test_a_message_that_is_none(channel, path, messages):
    call = channel.stream_stream(path)(iter(messages), timeout=60)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read" in call.details()


def test_a_message_that_does_not_come_has_a_time_limit(tmp_path):
    small_model(tmp_path / "act.onnx")

    async def run(server):
        for path in (INFER, LIVE, CHECK, WATCH):
            async with idle_calls(server, path, 2) as calls:
                assert {await call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}

    with ServerProcess(tmp_path, "--read-timeout", 0.5) as server, grpc.insecure_channel(server.grpc) as channel:
        asyncio.run(run(server))
        assert_serves(channel)


def test_what_is_idle_does_not_hold_up_the_drain(tmp_path):
    """Connections that ask nothing would be given 20 s to confirm that they are told to go."""
    small_model(tmp_path / "act.onnx")

    async def run(server):
        async with contextlib.AsyncExitStack() as stack:
            for path in (INFER, STREAM, CHECK, WATCH):
                await stack.enter_async_context(idle_calls(server, path, 20))
            server.process.terminate()
            assert await asyncio.to_thread(server.process.wait, 15) == 0

    with ServerProcess(tmp_path, "--drain-timeout", 600) as server, grpc.insecure_channel(server.grpc) as channel:
        idle = [connect(server.grpc) for _ in range(100)]
        watches = [channel.unary_stream(WATCH)(b"") for _ in range(20)]
        assert [next(watch) for watch in watches] == [SERVING] * 20
        assert_serves(channel)
        asyncio.run(run(server))
        assert idle
