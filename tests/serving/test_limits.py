"""Bounds in time, number and size, seen from outside: what is over them is refused, the rest is served."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tritonclient.grpc as client
from serving_models import slow_model
from serving_process import ServerProcess
from tritonclient.grpc import service_pb2 as pb

ROW = [[1.0, 2.0, 3.0, 4.0]]


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """One row at a time, two may wait; bodies must arrive within half a second."""
    folder = tmp_path_factory.mktemp("slow")
    slow_model(folder / "slow.onnx")
    with ServerProcess(
        folder, "--max-batch", 1, "--queue", 2, "--read-timeout", 0.5, "--max-pending-mib", 8, "--threads", 1
    ) as server:
        yield server


def idle(server):
    """Wait until the queue is empty again."""
    while server.metric("apa_queue_requests") or server.metric("apa_executing"):
        time.sleep(0.02)


def test_a_full_queue_is_said_with_a_time_to_come_back(slow):
    idle(slow)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: slow.infer(ROW, "slow"), range(12)))
    refused = [(headers, document) for status, headers, document in answers if status == 503]
    served = [document for status, _, document in answers if status == 200]
    assert len(refused) + len(served) == 12
    assert len(served) >= 3  # one at work and two that wait
    assert refused
    assert all(int(headers["retry-after"]) >= 1 and "queue" in document["error"] for headers, document in refused)
    values = {tuple(document["outputs"][0]["data"]) for document in served}
    assert len(values) == 1


def infer_message(**parameters):
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    message = pb.ModelInferRequest(model_name="slow", inputs=[tensor])
    message.raw_input_contents.append(np.array(ROW, np.float32).tobytes())
    for name, value in parameters.items():
        message.parameters[name].int64_param = value
    return message


def test_a_full_queue_over_grpc(slow):
    idle(slow)
    with grpc.insecure_channel(slow.grpc) as channel:
        stub = client.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(infer_message(), timeout=60) for _ in range(12)]
        codes = [call.code() for call in calls]
        refused = [call for call in calls if call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    for call in refused:
        said = dict(call.trailing_metadata())
        assert int(said["grpc-retry-pushback-ms"]) == 1000 * int(said["retry-after"]) >= 1000


def test_a_time_limit_of_the_request(slow):
    idle(slow)
    status, _, document = slow.infer(ROW, "slow", parameters={"timeout": 1000})
    assert status == 504
    assert "0.001 s" in document["error"]
    with grpc.insecure_channel(slow.grpc) as channel, pytest.raises(grpc.RpcError) as late:
        client.service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
            infer_message(timeout=1000), timeout=60
        )
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    idle(slow)
    assert slow.infer(ROW, "slow")[0] == 200


def blocked(server):
    """A thread pool whose requests occupy the instance and leave one place in the queue."""
    pool = ThreadPoolExecutor(2)
    for _ in range(2):
        pool.submit(server.infer, ROW, "slow")
    while not server.metric("apa_executing"):
        time.sleep(0.005)
    return pool


def test_a_grpc_client_that_cancels_leaves_the_queue(slow):
    idle(slow)
    before = len(slow.events("request"))
    with grpc.insecure_channel(slow.grpc) as channel, blocked(slow):
        call = client.service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(
            infer_message(), timeout=60
        )
        time.sleep(0.02)
        call.cancel()
    idle(slow)
    slow.wait_for("request", status="CANCELLED")
    assert len(slow.events("request")) > before
    assert slow.infer(ROW, "slow")[0] == 200


def test_an_http_client_that_goes_leaves_the_queue(slow):
    idle(slow)
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}]}).encode()
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    host, port = slow.http.split(":")
    with blocked(slow):
        for _ in range(2):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(head + body)
                time.sleep(0.02)
    slow.wait_for("request", status=499)
    idle(slow)
    assert slow.infer(ROW, "slow")[0] == 200


SLOW_CLIENTS = [
    ("says nothing", b"", b"408"),
    ("half a head", b"POST /v2/models/slow/infer HTTP/1.1\r\nHost:", b"408"),
    ("half a body", b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n{", b"408"),
    ("half a chunk", b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{",
     b"408"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "wanted"), [c[1:] for c in SLOW_CLIENTS], ids=[c[0] for c in SLOW_CLIENTS])
def test_a_slow_client_is_let_go_while_others_are_served(slow, sent, wanted):
    idle(slow)
    host, port = slow.http.split(":")
    connections = [socket.create_connection((host, int(port)), timeout=60) for _ in range(20)]
    for connection in connections:
        connection.sendall(sent)
    assert slow.infer(ROW, "slow")[0] == 200
    for connection in connections:
        received = b""
        while part := connection.recv(4096):
            received += part
        assert received.startswith(b"HTTP/1.1 " + wanted)
        connection.close()


def test_memory_for_all_requests_is_bounded(slow):
    """Eight MiB are set: of twelve bodies of one MiB that arrive together, some find no room."""
    idle(slow)
    host, port = slow.http.split(":")
    size = 1 << 20
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n".encode()
    statuses, start = [], threading.Barrier(12)

    def send():
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head + b" " * (size - 1))
            start.wait(30)
            statuses.append(connection.recv(12)[-3:])

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {b"503", b"408"}
    assert b"503" in statuses
    assert slow.metric("apa_pending_bytes") == 0
    assert slow.infer(ROW, "slow")[0] == 200
