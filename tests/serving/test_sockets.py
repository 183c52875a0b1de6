"""Connections that gRPC and TLS keep to themselves: seen through the kernel, and ended where they ask nothing."""

import contextlib
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request

import grpc
import pytest
from serving_models import small_model
from serving_process import ServerProcess
from socket_clients import ROW, connect, wait_until
from tritonclient.grpc import service_pb2, service_pb2_grpc

from apa_deploy.serving.sockets import list_sockets, parse_peer

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


def is_live_over_grpc(address):
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=60).live
        except grpc.RpcError:
            return False


def is_live_over_tls(address, pem):
    context = ssl.create_default_context(cafile=pem)
    try:
        with urllib.request.urlopen(f"https://{address}/v2/health/live", timeout=5, context=context) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_is_seen_and_ended(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        with socket.create_connection((host, port), 60) as client, server.accept()[0] as accepted:
            assert list_sockets({port + 1}) == []
            client.sendall(b"12345")
            (one,) = wait_for_bytes(port, 5)
            assert (one.descriptor, one.port) == (accepted.fileno(), port)
            assert one.peer == (host, client.getsockname()[1])
            assert one.quiet < 60
            one.end()
            assert client.recv(1) == b""
            os.fstat(accepted.fileno())  # the descriptor is its owner's


def wait_for_bytes(port, count):
    wait_until(lambda: sum(one.received for one in list_sockets({port})) == count)
    return list_sockets({port})


def test_what_has_another_peer_now_is_let_be():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address, 60), server.accept()[0] as first:
            (one,) = list_sockets({address[1]})
            with socket.create_connection(address, 60) as other, server.accept()[0] as second:
                os.dup2(second.fileno(), first.fileno())
                one.end()
                second.sendall(b"x")
                assert other.recv(1) == b"x"


PEERS = [
    ("ipv4:127.0.0.1:40000", ("127.0.0.1", 40000)),
    ("ipv6:%5B::1%5D:40000", ("::1", 40000)),
    ("ipv6:[fe80::1%25eth0]:1", ("fe80::1", 1)),
    ("ipv6:%5B::ffff:10.0.0.1%5D:5", ("10.0.0.1", 5)),
    ("unix:", ("", 0)),
]


@pytest.mark.parametrize(("name", "address"), PEERS)
def test_the_names_of_peers(name, address):
    assert parse_peer(name) == address


@pytest.mark.parametrize("sent", [b"", HELLO], ids=["nothing", "hello"])
def test_idle_connections_to_grpc_make_room(tmp_path, sent):
    """They are far more than there are descriptors, and do not go by themselves within the test."""
    small_model(tmp_path / "act.onnx")
    options = ("--max-connections", 16, "--read-timeout", 600)
    with ServerProcess(tmp_path, *options) as server, grpc.insecure_channel(server.grpc) as channel:
        soft = server.descriptors() + 150
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, soft))
        stream = channel.stream_stream(STREAM)(iter(threading.Event().wait, None), timeout=600)  # a call, and quiet
        wait_until(lambda: server.metric("apa_grpc_calls") == 1)
        idle = []
        for _ in range(400):
            idle.append(connect(server.grpc))
            with contextlib.suppress(OSError):  # it is one too many, and gone already
                idle[-1].sendall(sent)
        assert server.ask("/v2/health/live")[0] == 200
        assert server.infer(ROW)[0] == 200
        wait_until(lambda: is_live_over_grpc(server.grpc))
        assert server.metric("apa_connections_ended_total") > 0
        assert stream.is_active()
        assert not server.events("descriptors")
        stream.cancel()
        assert server.stop() == 0


def test_connections_without_a_handshake_make_room(tmp_path, certificate):
    """They fill the descriptors at once; asyncio would wait a minute for each."""
    small_model(tmp_path / "act.onnx")
    key, pem = certificate
    with ServerProcess(tmp_path, "--tls-cert", pem, "--tls-key", key, "--max-connections", 16) as server:
        soft = server.descriptors() + 100
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, soft))
        idle = [connect(server.http) for _ in range(300)]
        wait_until(lambda: is_live_over_tls(server.http, pem))
        assert len(server.text()) < 20_000
        assert server.stop() == 0
        assert idle


def test_too_few_descriptors_are_refused():
    code = "from apa_deploy.serving.descriptors import *\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
    code += "try: count_connections(1024, None)\nexcept InputError as error: print(error)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "64 open files" in said
    assert "ulimit -n" in said
