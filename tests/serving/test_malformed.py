"""Ten thousand malformed requests: each is refused, none crashes the server or stays in its memory."""

import asyncio
import random

import grpc
import numpy as np
import pytest
from abuse import requests
from serving_models import TOLERANCE, truth
from socket_clients import wait_until
from tritonclient.grpc import service_pb2 as pb

COUNT = 10_000
CONNECTIONS = 8

# A server that kept the 5,000 requests of the second half, each 100 bytes and at least 400 of Python objects around
# it, would grow by 2.5 MB.
GROWTH = 2_500_000


async def answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status of one answer, its body read, and whether the connection ends with it."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
    await reader.readexactly(length)
    return int(lines[0].split()[1]), "connection: close" in lines


class Connection:
    """Sends raw requests over one connection, opened anew where it was closed; status 0: closed without answer."""

    def __init__(self, address: str) -> None:
        self.host, port = address.split(":")
        self.port, self.streams = int(port), None

    async def send(self, abuse) -> int:
        reader, writer = await asyncio.open_connection(self.host, self.port) if not self.streams else self.streams
        try:
            writer.write(abuse.raw)
            if abuse.closes:
                writer.write_eof()
            async with asyncio.timeout(30):
                status, closes = await answer(reader)
        except (asyncio.IncompleteReadError, OSError):
            status, closes = 0, True
        self.streams = (reader, writer)
        if abuse.closes or closes:
            writer.close()
            self.streams = None
        return status


async def send_all(address, abuses):
    """What was answered wrongly: (raw request, status)."""
    remaining, wrong = iter(abuses), []

    async def work():
        connection = Connection(address)
        for abuse in remaining:
            status = await connection.send(abuse)
            hung_up = status == 0 and abuse.closes
            if not (hung_up or status in abuse.wanted):
                wrong.append((abuse.raw[:300], status))
        if connection.streams:
            connection.streams[1].close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return wrong


def assert_serves(server):
    rows = [[-1.0, 0.0, 1.0, 2.0]]
    status, _, document = server.infer(rows)
    assert status == 200
    got = np.array(document["outputs"][0]["data"]).reshape(1, 4)
    np.testing.assert_allclose(got, truth(np.array(rows))["y"], atol=TOLERANCE)


def test_ten_thousand_over_http(server):
    assert asyncio.run(send_all(server.http, requests(COUNT // 2, seed=1))) == []
    memory, descriptors = server.memory(), server.descriptors()
    assert asyncio.run(send_all(server.http, requests(COUNT // 2, seed=2))) == []
    assert server.alive()
    assert_serves(server)
    assert server.memory() - memory < GROWTH
    wait_until(lambda: server.descriptors() <= descriptors + 1)  # the connection of the answer just given
    assert not server.events("fault")


def grpc_abuse(r: random.Random) -> bytes:
    """A serialised request with something wrong; sometimes no message at all."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    message = pb.ModelInferRequest(model_name="act", inputs=[tensor], raw_input_contents=[bytes(16)])
    match r.randrange(8):
        case 0:
            message.inputs[0].shape[:] = r.choice([[4], [1, -4], [0, 4], [2**62, 4], [1] * 40])
        case 1:
            message.inputs[0].datatype = r.choice(["", "FP16", "INT64", "BYTES", "?"])
        case 2:
            message.inputs[0].name = r.choice(["", "z", "x" * 10_000])
        case 3:
            message.raw_input_contents[0] = bytes(r.choice([0, 1, 15, 17, 5000]))
        case 4:
            message.model_name = r.choice(["", "..", "../act", "act\x00", "a" * 10_000])
        case 5:
            message.model_version = r.choice(["0", "2", "x", "-1", "9" * 50])
        case 6:
            message.outputs.add(name=r.choice(["", "z", "x"]))
        case 7:
            data = bytearray(message.SerializeToString())
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
            return bytes(data)
    return message.SerializeToString()


def test_a_thousand_over_grpc(server):
    generator = random.Random(3)
    refusals = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(1000):
            raw = grpc_abuse(generator)
            try:
                call(raw, timeout=30)  # a changed bit may leave the request good
            except grpc.RpcError as error:
                assert error.code() in refusals, (raw, error)
    assert_serves(server)
    assert not server.events("fault")


@pytest.mark.parametrize("size", [2 << 20, 64 << 20], ids=["twice the limit", "far beyond"])
def test_a_large_grpc_message_is_refused(server, size):
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(size), timeout=30)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert_serves(server)


def test_a_large_body_is_refused_before_it_is_read(server):
    before = server.memory()
    status, headers, body = server.ask("/v2/models/act/infer", bytes(24 << 20))
    assert (status, headers["connection"]) == (413, "close")
    assert b"at most" in body
    assert server.memory() - before < 8 << 20  # of 24 MiB that were sent
