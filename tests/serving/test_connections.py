"""Connections that ask nothing, and clients that do not read: the others and the probes are served all the same."""

import re
import resource
import socket
import struct
import time
from unittest.mock import Mock

import grpc
import numpy as np
import pytest
from serving_models import large_answer_model, loop_model, small_model
from serving_process import ServerProcess
from socket_clients import MIB, ROW, connect, infer_request, read_all, read_one, statuses, wait_until
from tritonclient.grpc import service_pb2, service_pb2_grpc

from apa_deploy.serving.connections import Connections


@pytest.fixture
def large(tmp_path):
    """Answers of 4.8 MB."""
    large_answer_model(tmp_path / "large.onnx")
    return tmp_path


def test_clients_that_do_not_read_are_let_go_with_their_memory(large):
    options = (
        "--write-timeout",
        10,
        "--max-pending-mib",
        128,
        "--max-batch",
        1,
    )  # a batch's memory would hide theirs
    with ServerProcess(large, *options) as server:
        before = server.memory()
        connections = [connect(server.http, receive_buffer=4096) for _ in range(40)]
        for connection in connections:
            connection.sendall(infer_request("large", "Connection: close\r\n"))
        wait_until(lambda: server.metric("apa_pending_bytes") > 64 * MIB)
        assert server.metric("apa_pending_bytes") <= 128 * MIB
        assert server.ask("/v2/health/live")[0] == 200
        wait_until(lambda: server.metric("apa_pending_bytes") == 0)
        assert server.metric("apa_connections_ended_total") >= 1
        received = [read_all(connection) for connection in connections]
        refused = [one for one in received if statuses(one) == [503]]
        assert refused  # beyond 128 MiB; each of the others holds 4.8
        assert all(len(one) < 4_800_000 for one in received)
        wait_until(lambda: server.memory() - before < 64 * MIB)  # 26 answers at once were 125 MB
        assert server.stop() == 0


def test_a_slow_reader_gets_all_of_its_answer(large):
    with ServerProcess(large, "--write-timeout", 6) as server:
        connection = connect(server.http, receive_buffer=4096)
        connection.sendall(infer_request("large", "Connection: close\r\n"))
        received = b""
        for at in range(4):  # less than the limit at a time, more in all
            while len(received) < 1_000_000 * at and (part := connection.recv(1 << 16)):
                received += part
            time.sleep(2)
        received += read_all(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"200 OK" in head
        assert len(body) == int(re.search(rb"\ncontent-length: (\d+)", head)[1])
        values = np.frombuffer(body[-4_800_000:], np.float32).reshape(4, -1)
        np.testing.assert_array_equal(values, np.repeat(np.array(ROW[0], np.float32)[:, None], 300_000, axis=1))


def test_an_answer_that_is_not_read_counts_over_grpc_too(large):
    any_size = [("grpc.max_receive_message_length", -1)]
    with (
        ServerProcess(large, "--max-pending-mib", 16) as server,
        grpc.insecure_channel(server.grpc, any_size) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
        request = service_pb2.ModelInferRequest(model_name="large", inputs=[tensor])
        request.raw_input_contents.append(np.array(ROW, np.float32).tobytes())
        streams = [stub.ModelStreamInfer(iter([request] * 5)) for _ in range(4)]  # nothing is read from them
        wait_until(lambda: server.metric("apa_pending_bytes") > 9 * MIB)
        assert server.metric("apa_pending_bytes") <= 16 * MIB
        replies = [list(stream) for stream in streams]
        assert [len(stream) for stream in replies] == [5] * 4
        errors = [reply.error_message for stream in replies for reply in stream if reply.error_message]
        assert errors and all("bytes of requests and answers" in error for error in errors)
        wait_until(lambda: server.metric("apa_pending_bytes") == 0)


def test_clients_that_do_not_read_do_not_hold_up_the_end(large):
    with ServerProcess(large, "--drain-timeout", 2) as server:
        connections = [connect(server.http, receive_buffer=4096) for _ in range(8)]
        for connection in connections:
            connection.sendall(infer_request("large"))
        wait_until(lambda: server.metric("apa_pending_bytes") > 30 * MIB)
        start = time.monotonic()
        assert server.stop() == 1  # what was accepted did not arrive
        assert time.monotonic() - start < 2 + 5
        assert server.events("drained")[-1]["lost"] == 8


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n", b"GET /v2/health/live HTTP/1.1\r\nHo"], ids=["none", "line end", "half"]
)
def test_connections_without_a_request_make_room(tmp_path, sent):
    """Whatever they have sent, it is no request."""
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path, "--max-connections", 32) as server:
        idle = []
        for _ in range(150):
            idle.append(connect(server.http))
            idle[-1].sendall(sent)
        assert [server.infer(ROW)[0] for _ in range(5)] == [200] * 5
        kept = connect(server.http)
        kept.sendall(infer_request("act"))
        assert read_one(kept).startswith(b"HTTP/1.1 200")
        idle += [connect(server.http) for _ in range(20)]  # the one that has just been used is not the first to go
        kept.sendall(infer_request("act"))
        assert read_one(kept).startswith(b"HTTP/1.1 200")
        assert server.metric("apa_connections") <= 32 + 2  # with the one for metrics
        assert len(server.text()) < 20_000
        assert server.stop() == 0


@pytest.fixture
def connect_to():
    """Makes a stand-in of a connection, whose client has sent what is given."""
    sockets = []

    def make(sent=b"", in_head=False):
        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))
        theirs.sendall(sent)
        transport = Mock(**{"get_extra_info.side_effect": {"socket": ours}.get})
        return Mock(in_head=in_head, transport=transport, has_gone=lambda: transport.abort.called)

    yield make
    for one in sockets:
        one.close()


UNREAD = [
    ("nothing", b"", False, True),
    ("a line end", b"\r\n", False, True),
    ("line ends", b"\r\n\r\n", False, True),
    ("half a head", b"POST /v2 HTTP/1.1\r\nHost: h\r\n", False, True),
    ("a head", b"POST /v2 HTTP/1.1\r\nHost: h\r\n\r\n", False, False),
    ("the end of a head", b"\r\n", True, False),
]


@pytest.mark.parametrize(("sent", "in_head", "goes"), [c[1:] for c in UNREAD], ids=[c[0] for c in UNREAD])
def test_who_has_a_request_that_nobody_has_read(connect_to, sent, in_head, goes):
    """The longest idle goes first, unless the end of its head lies in the socket."""
    connections = Connections(2)
    first, second = connect_to(sent, in_head), connect_to()
    assert connections.add(first) and connections.add(second) and connections.add(connect_to())
    assert (first.has_gone(), second.has_gone()) == (goes, not goes)


def test_a_connection_beyond_the_limit_is_for_probes_until_there_is_room(connect_to):
    connections = Connections(1)
    first, second, third = connect_to(), connect_to(), connect_to()
    connections.add(first)
    assert connections.work(first)
    assert connections.add(second)
    assert not connections.work(second)  # it is answered nothing but a probe
    connections.rest(second)
    connections.discard(first)
    assert connections.add(third)  # and now there is room for one
    assert second.has_gone()
    assert connections.work(third)


def test_bodies_that_have_come_to_a_halt_make_room(connect_to, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("apa_deploy.serving.connections.time.monotonic", lambda: now[0])
    connections = Connections(3)
    halted, sending, whole = connect_to(), connect_to(b"more of it"), connect_to()
    for one in (halted, sending, whole):
        connections.add(one)
        connections.work(one)
        connections.receive(one)
    connections.end_body(whole)
    connections.add(connect_to())
    assert not halted.has_gone()  # it may be on its way
    now[0] = 10.0
    connections.add(connect_to())
    connections.add(connect_to())
    assert [one.has_gone() for one in (halted, sending, whole)] == [True, False, False]


def test_busy_connections_leave_room_for_probes(tmp_path):
    loop_model(tmp_path / "loop.onnx")
    arguments = (
        "--max-connections",
        8,
        "--max-batch",
        0,
        "--threads",
        1,
        "--health-port",
        0,
        "--request-timeout",
        10,
    )
    with ServerProcess(tmp_path, *arguments) as server:
        busy = [connect(server.http) for _ in range(8)]
        for connection in busy:
            connection.sendall(infer_request("loop", "Connection: close\r\n", turns=9e9))
        wait_until(lambda: server.metric("apa_queue_requests") + server.metric("apa_executing") == 8)
        assert server.ask("/v2/health/live")[0] == server.ask("/v2/health/ready")[0] == 200
        other = connect(server.http)
        other.sendall(infer_request("loop", "Connection: close\r\n"))
        assert statuses(read_all(other)) == [503]
        probes = connect(f"127.0.0.1:{server.events('ready')[0]['health_port']}")
        probes.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\nGET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert statuses(read_all(probes)) == [200, 404]
        answers = [statuses(read_all(connection)) for connection in busy]
        assert all(len(one) == 1 for one in answers)


def test_the_log_does_not_grow_when_descriptors_run_out(tmp_path):
    small_model(tmp_path / "act.onnx")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))  # of this process; the server inherits it
    try:
        server = ServerProcess(tmp_path, "--max-connections", 100_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with server:
        assert server.events("descriptors")  # fewer connections than were asked for, and it says so
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert limits[0] > 400  # it takes what it may
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (300, 300))
        idle = [connect(server.http) for _ in range(400)]
        wait_until(lambda: server.ask("/v2/health/live")[0] == 200)
        assert server.infer(ROW)[0] == 200
        assert len(server.text()) < 20_000
        for connection in idle:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        assert server.stop() == 0
