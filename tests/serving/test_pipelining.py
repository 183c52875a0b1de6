"""Requests sent before an answer, the end of what a client sends, and chunks that carry more than a body."""

import asyncio
import json
import socket
import struct
import threading
from unittest.mock import Mock

import pytest
import uvicorn
from serving_models import loop_model, small_model
from serving_process import ServerProcess
from socket_clients import connect, infer_request, read_all, statuses, wait_until

from apa_deploy.serving.budget import Budget
from apa_deploy.serving.connections import Connections
from apa_deploy.serving.http_guard import GuardedProtocol

KIB, MIB = 1 << 10, 1 << 20
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n"
CLOSE = "Connection: close\r\n"
CHUNKED = b"POST /v2/models/act/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = infer_request("act").partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small_model(folder / "act.onnx")
    loop_model(folder / "loop.onnx")
    options = ("--max-request-mib", 1, "--max-pending-mib", 8, "--threads", 1, "--request-timeout", 6)
    with ServerProcess(folder, *options) as process:
        yield process


def wait_until_idle(server):
    wait_until(lambda: not server.metric("apa_executing") + server.metric("apa_queue_requests"))


@pytest.mark.parametrize("case", ["large bodies", "small requests"])
def test_what_waits_behind_a_request_is_bounded_and_counted(server, case):
    """Behind a request that takes long no more is read than fits, and each is answered in its turn."""
    padded = b" " * 50_000 + BODY
    head = f"POST /v2/models/act/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(padded)}\r\n\r\n".encode()
    request, count = {"large bodies": (head + padded, 600), "small requests": (LIVE, 5000)}[case]
    connection, before = connect(server.http), server.memory()
    connection.sendall(infer_request("loop", turns=9e9))  # until its time is up
    wait_until(lambda: server.metric("apa_executing"))
    connection.sendall(request)
    sender = threading.Thread(
        target=connection.sendall,
        args=(request * (count - 1) + LIVE.replace(b"\n\r", b"\n" + CLOSE.encode() + b"\r"),),
    )
    sender.start()
    wait_until(lambda: server.metric("apa_pending_bytes") > 30 * KIB)
    assert server.metric("apa_pending_bytes") < MIB
    assert server.ask("/v2/health/live")[0] == 200
    assert server.memory() - before < 16 * MIB
    received = read_all(connection)
    sender.join()
    assert statuses(received) == [504] + [200] * (count + 1)
    assert server.memory() - before < 16 * MIB
    wait_until(lambda: server.metric("apa_pending_bytes") == 0)


@pytest.mark.parametrize("limit", [MIB, 20 * KIB], ids=["room", "no room"])
def test_what_arrived_behind_a_request_waits_or_is_refused(limit):
    """As the event loop delivers it: one piece, with thousands of requests in it."""
    written, budget = [], Budget(limit)

    async def run():
        answers = asyncio.Event()

        async def app(scope, receive, send):
            await answers.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        config = uvicorn.Config(app, interface="asgi3", ws="none", lifespan="off", log_config=None)
        options = {"head_seconds": 60, "write_seconds": 60, "connections": Connections(9), "budget": budget}
        protocol = GuardedProtocol(config, uvicorn.server.ServerState(), {}, **options)
        transport = Mock(**{"get_extra_info.return_value": None, "is_closing.return_value": False})
        transport.write.side_effect = written.append
        protocol.connection_made(transport)
        protocol.data_received(LIVE * 5000)
        assert len(protocol.pipeline) < 200
        held = budget.held
        assert transport.pause_reading.called
        answers.set()
        while protocol.pipeline or budget.held or not protocol.cycle.response_complete:
            await asyncio.sleep(0)
        return held

    held = asyncio.run(run())
    codes = statuses(b"".join(written))
    if limit == MIB:
        assert len(LIVE) * 4800 < held < len(LIVE) * 5000
        assert codes == [200] * 5000
    else:
        assert held == 0
        assert set(codes[:-1]) == {200} and codes[-1] == 503  # those that were parsed, and no more


HALF_CLOSED = [
    ("a probe", LIVE, [200]),
    ("an inference", infer_request("act"), [200]),
    ("three", infer_request("act") * 3, [200] * 3),
    ("an inference and half a one", infer_request("act") + infer_request("act")[:-9], [200]),
    ("an inference and half a head", infer_request("act") + LIVE[:20], [200]),
    ("chunks", CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), [200]),
    ("a bad request", infer_request("act").replace(b"inputs", b"inputz"), [400]),
    ("one that takes long", infer_request("loop", turns=1e5), [200]),
    ("one that takes too long, then another", infer_request("loop", turns=9e9) + LIVE, [504, 200]),
    ("half a body", infer_request("act")[:-9], []),
    ("half a head", LIVE[:20], []),
    ("nothing", b"", []),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "wanted"), [c[1:] for c in HALF_CLOSED], ids=[c[0] for c in HALF_CLOSED])
def test_a_client_that_sends_no_more_gets_its_answers(server, sent, wanted):
    with connect(server.http) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    assert statuses(received) == wanted
    assert received.startswith(b"HTTP/1.1 " if wanted else b"")
    if wanted == [200] and b"infer" in sent:
        head, _, body = received.partition(b"\r\n\r\n")
        assert json.loads(body[: int(dict_of(head)["inference-header-content-length"])])["outputs"]


def dict_of(head):
    return dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])


@pytest.mark.parametrize("killed", [False, True], ids=["closes", "is killed"])
@pytest.mark.parametrize("pipelined", [0, 1, 1000])
def test_a_client_that_has_gone_is_not_waited_for(server, pipelined, killed):
    """Also where what it had sent beyond the request lies unread."""
    wait_until_idle(server)
    count = len([event for event in server.events("request") if event["status"] == 499])
    with connect(server.http) as connection:
        connection.sendall(infer_request("loop", turns=9e9) + LIVE * pipelined)
        wait_until(lambda: server.metric("apa_executing"))
        connection.sendall(LIVE * pipelined)
        if killed:  # then the connection breaks; else it ends
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.wait_for("request", count + 1, status=499)
    wait_until_idle(server)
    assert server.metric("apa_pending_bytes") == 0


def test_a_client_that_pipelines_and_sends_no_more_gets_every_answer(server):
    with connect(server.http) as connection:
        connection.sendall(infer_request("loop", turns=1e5))
        connection.sendall(LIVE * 3000)
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    assert statuses(received) == [200] * 3001
    assert received.startswith(b"HTTP/1.1 200")


EXTENSIONS = [
    ("one long extension", b"1;" + b"a" * 200_000 + b"\r\n", [431]),
    ("many extensions", (b"1;" + b"a" * 1000 + b"\r\n \r\n") * 100, [431]),
    ("leading zeros", b"0" * 200_000 + b"1\r\n", [431]),
    ("a long trailer", b"0\r\nx: " + b"a" * 200_000 + b"\r\n\r\n", [431]),
    ("a short extension", b"1;a=b\r\n \r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), [200]),
    ("one byte a chunk", b"1\r\n \r\n" * 50_000 + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), [200]),
]  # fmt: skip


@pytest.mark.parametrize(("chunks", "wanted"), [c[1:] for c in EXTENSIONS], ids=[c[0] for c in EXTENSIONS])
def test_what_chunks_carry_beside_the_body_is_bounded(server, chunks, wanted):
    with connect(server.http) as connection:
        connection.sendall(CHUNKED.replace(b"\r\n\r\n", b"\r\n" + CLOSE.encode() + b"\r\n") + chunks)
        assert statuses(read_all(connection)) == wanted
