"""Corners of the protocol, as bytes on the wire."""

import contextlib
import gzip
import json
import re
import socket
import threading

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from serving_models import halving_model, small_model
from serving_process import ServerProcess
from tritonclient.grpc import service_pb2 as pb

ROW = [1.0, 2.0, 3.0, 4.0]
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}
GOOD = json.dumps({"inputs": [TENSOR]}).encode()
INFER = "/v2/models/act/infer"
CLOSE = "Connection: close\r\n"
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"


def request(body=GOOD, path=INFER, method="POST", head=CLOSE, version="HTTP/1.1"):
    return f"{method} {path} {version}\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def send(server, data):
    """Everything that the server says to `data`, until it closes the connection."""
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        sender = threading.Thread(target=lambda: _send_quietly(connection, data))
        sender.start()
        received = b""
        try:
            while part := connection.recv(1 << 16):
                received += part
        except ConnectionResetError:
            received += b"<reset>"
        sender.join()
    return received


def _send_quietly(connection, data):
    with contextlib.suppress(OSError):  # refused before the end
        connection.sendall(data)


def with_parameters(**parameters):
    return json.dumps({"inputs": [TENSOR], "parameters": parameters}).encode()


CASES = [
    ("a time limit beyond every float", request(with_parameters(timeout=10**400)), [200]),
    ("a head of 120 kB", request(head=CLOSE + "a: " + "b" * 120_000 + "\r\n"), [431]),
    ("a head of 120 kB in small lines", request(head=CLOSE + "a: b\r\n" * 20_000), [431]),
    ("an address of 70 kB", request(path="/" + "a" * 70_000), [431]),
    ("a head of 50 kB", request(head=CLOSE + "a: " + "b" * 50_000 + "\r\n"), [200]),
    ("a wish for HTTP/2", request(head=H2C.replace("Upgrade,", "Upgrade, close,")), [200]),
    ("wishes for HTTP/2 in front of others", request(head=H2C) + request(head=H2C) + request(), [200] * 3),
    ("a wish for HTTP/2 with chunks", b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: h\r\n" + H2C.encode()
     + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD) + request(), [200, 200]),
    ("a wish for WebSocket without a body", request(b"", "/v2", "GET", WEBSOCKET) + request(), [200, 200]),
    ("a wish for HTTP/2 in front of garbage", request(head=H2C) + b"garbage\r\n\r\n", [200, 400]),
    ("a wish with a head of 120 kB", request(head=H2C + "a: " + "b" * 120_000 + "\r\n"), [431]),
    ("a wish and a large body", request(b" " * 500_000 + GOOD, head=H2C) + request(), [200, 200]),
    ("garbage behind good ones", request(head="") * 3 + b"garbage\r\n\r\n", [200, 200, 200, 400]),
    ("much garbage behind good ones", request(head="") * 3 + b"\x00garbage" * 100_000, [200, 200, 200, 400]),
    ("a long head behind good ones", request(head="") * 3 + request(head="a: " + "b" * 99_000 + "\r\n"),
     [200, 200, 200, 431]),
    ("a bad chunk behind a good one", request(head="") + b"POST " + INFER.encode()
     + b" HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX\r\n", [200, 400]),
    ("HTTP/0.9", b"GET /v2\r\n\r\n", [400]),
    ("no host", request().replace(b"Host:", b"Guest:"), [400]),
    ("no host in HTTP/1.0", request().replace(b"Host:", b"Guest:").replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
    ("two hosts", request(head=CLOSE + "host: other\r\n"), [400]),
    ("two tokens", request(head=CLOSE + "Authorization: Bearer a\r\nauthorization: Bearer b\r\n"), [400]),
    ("two hosts behind a good one", request(head="") + request(head="host: other\r\n"), [200, 400]),
    ("trailers of 120 kB", b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
     + b"%x\r\n%s\r\n0\r\n" % (len(GOOD), GOOD) + b"x: y\r\n" * 20_000 + b"\r\n", [431]),
    ("junk behind gzip", request(gzip.compress(GOOD) + b"junk", head=CLOSE + "Content-Encoding: gzip\r\n"), [400]),
    ("gzip", request(gzip.compress(GOOD), head=CLOSE + "Content-Encoding: gzip\r\n"), [200]),
    ("raw contents", request(np.array(ROW, np.float32).tobytes(),
                             head=CLOSE + "Inference-Header-Content-Length: 0\r\n"), [200]),
    ("raw contents that do not fit", request(bytes(15), head=CLOSE + "Inference-Header-Content-Length: 0\r\n"),
     [400]),
    ("HEAD of liveness", request(b"", "/v2/health/live", "HEAD"), [200]),
    ("HEAD of readiness", request(b"", "/v2/health/ready", "HEAD"), [200]),
    ("HEAD of a model", request(b"", "/v2/models/act/ready", "HEAD"), [200]),
    ("HEAD of an inference", request(b"", INFER, "HEAD"), [405]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "wanted"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_answers_are(server, data, wanted):
    received = send(server, data)
    assert [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", received)] == wanted, received[-300:]
    assert b"<reset>" not in received
    assert server.ask("/v2/health/live")[0] == 200


def test_a_wish_that_comes_byte_by_byte(server):
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(head=H2C) + request():
            connection.sendall(bytes([byte]))
        received = connection.makefile("rb").read()
    assert re.findall(rb"HTTP/1\.1 (\d{3})", received) == [b"200", b"200"]


def test_head_has_no_body(server):
    received = send(server, request(b"", "/v2", "HEAD"))
    head, _, body = received.partition(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) > 0
    assert body == b""


def test_raw_contents_are_the_only_input_and_the_answer_is_binary(server):
    raw = np.array(ROW, np.float32).tobytes()
    _, headers, body = server.ask(INFER, raw, {"Inference-Header-Content-Length": "0"})
    length = int(headers["inference-header-content-length"])
    assert [output["shape"] for output in json.loads(body[:length])["outputs"]] == [[1, 4], [1, 4]]
    wanted = server.infer([ROW])[2]["outputs"][0]["data"]
    np.testing.assert_array_equal(np.frombuffer(body[length:][:16], np.float32), np.array(wanted, np.float32))


@pytest.mark.parametrize("value", ["Bearer {}", "bearer {} ", "Bearer   {}", " Bearer {}\t"])
def test_spaces_around_a_token(tmp_path, value):
    small_model(tmp_path / "act.onnx")
    token = "correct-horse-battery-staple"
    with ServerProcess(tmp_path, environment={"APA_SERVE_TOKEN": token}) as server:
        assert server.ask("/v2", headers={"Authorization": value.format(token)})[0] == 200
        assert server.ask("/v2", headers={"Authorization": value.format(token + " x")})[0] == 401


def infer_message(**contents):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": contents}
    return ParseDict({"model_name": "act", "id": "one", "inputs": [tensor]}, pb.ModelInferRequest())


def test_two_kinds_of_contents_are_refused(server):
    with grpc.insecure_channel(server.grpc) as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelInferResponse.FromString,
        )
        assert stub(infer_message(fp32_contents=ROW)).id == "one"
        for more in ({"int_contents": [1]}, {"bytes_contents": ["YQ=="]}):
            with pytest.raises(grpc.RpcError, match=r"int_contents|bytes_contents") as refused:
                stub(infer_message(fp32_contents=ROW, **more))
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("bad", [b"\xff\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe"])
def test_a_stream_answers_what_it_cannot_read(server, bad):
    good = infer_message(fp32_contents=ROW).SerializeToString()
    with grpc.insecure_channel(server.grpc) as channel:
        stream = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            lambda data: data,
            pb.ModelStreamInferResponse.FromString,
        )
        answers = [bool(answer.error_message) for answer in stream(iter([good, bad, good]))]
    assert answers == [False, True, False]


def field(text):
    return b"\x0a" + bytes([len(text)]) + text.encode() if text else b""


HEALTH = [("", 1), ("act", 1), ("inference.GRPCInferenceService", 1), ("no-such", None)]


@pytest.mark.parametrize(("service", "status"), HEALTH)
def test_health_as_kubernetes_asks(server, service, status):
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        if status is None:
            with pytest.raises(grpc.RpcError) as refused:
                check(field(service))
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        else:
            assert check(field(service)) == bytes([8, status])


def test_a_watcher_hears_of_the_end(tmp_path):
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path, "--drain-timeout", 600) as server, grpc.insecure_channel(server.grpc) as channel:
        statuses = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(statuses) == bytes([8, 1])
        assert server.stop() == 0
        assert list(statuses) == [bytes([8, 2])]


@pytest.mark.parametrize("arguments", [(), ("--isolate",)], ids=["one process", "isolated"])
def test_subnormal_numbers_count_as_zero(tmp_path, arguments):
    """On whichever thread a request runs: they would make convolutions slow."""
    halving_model(tmp_path / "half.onnx")
    asked = json.dumps({"inputs": [TENSOR | {"data": [1.5e-38, -1.5e-38, 1.0, 3e-38]}]}).encode()
    with ServerProcess(tmp_path, *arguments) as server:
        for _ in range(3):
            answer = json.loads(server.ask("/v2/models/half/infer", asked)[2])
            assert answer["outputs"][0]["data"][:3] == [0.0, 0.0, 0.5]
