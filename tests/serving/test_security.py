"""Tokens, TLS and paths, through the stock clients and from outside."""

import contextlib
import socket
import ssl
import subprocess

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from serving_models import small_model
from serving_process import ServerProcess
from tritonclient.utils import InferenceServerException

from apa_deploy.runtimes.cuda_driver import device_count

TOKEN = "correct-horse-battery-staple"
BEARER = {"authorization": f"Bearer {TOKEN}"}  # given as a copy: the HTTP client adds to it


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, certificate):
    """A server on every address, with a token and TLS."""
    key, pem = certificate
    folder = tmp_path_factory.mktemp("models")
    small_model(folder / "act.onnx")
    arguments = ("--host", "0.0.0.0", "--tls-cert", pem, "--tls-key", key)
    with ServerProcess(folder, *arguments, environment={"APA_SERVE_TOKEN": TOKEN}) as server:
        yield server


def inputs(module):
    tensor = module.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    return [tensor]


def http_client(server, pem):
    import gevent.ssl

    def context():
        return gevent.ssl.create_default_context(cafile=pem)

    return tritonclient.http.InferenceServerClient(server.http, ssl=True, ssl_context_factory=context)


def grpc_client(server, pem):
    return tritonclient.grpc.InferenceServerClient(server.grpc, ssl=True, root_certificates=str(pem))


CLIENTS = [(tritonclient.http, http_client), (tritonclient.grpc, grpc_client)]


@pytest.mark.parametrize(("module", "make"), CLIENTS, ids=["http", "grpc"])
def test_the_token_opens_and_nothing_else_does(guarded, certificate, module, make):
    client = make(guarded, certificate[1])
    assert client.infer("act", inputs(module), headers=dict(BEARER)).as_numpy("y").shape == (1, 4)
    for headers in ({}, {"authorization": "Bearer wrong-wrong-wrong"}, {"authorization": TOKEN}):
        for call in (
            lambda h: client.infer("act", inputs(module), headers=h),
            lambda h: client.get_server_metadata(headers=h),
            lambda h: client.get_model_config("act", headers=h),
            lambda h: client.unload_model("act", headers=h),
        ):
            with pytest.raises(InferenceServerException) as refused:
                call(headers)
            assert refused.value.status() in ("401", "StatusCode.UNAUTHENTICATED")
    assert client.infer("act", inputs(module), headers=dict(BEARER)).as_numpy("y").shape == (1, 4)


@pytest.mark.parametrize("make", [http_client, grpc_client], ids=["http", "grpc"])
def test_probes_need_no_token(guarded, certificate, make):
    client = make(guarded, certificate[1])
    assert client.is_server_live()
    assert client.is_server_ready()


def test_a_stream_needs_the_token(guarded, certificate):
    pem = certificate[1].read_bytes()
    with grpc.secure_channel(guarded.grpc, grpc.ssl_channel_credentials(pem)) as channel:
        stub = tritonclient.grpc.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.ModelStreamInfer(iter([tritonclient.grpc.service_pb2.ModelInferRequest(model_name="act")])))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_metrics_need_the_token(guarded, certificate):
    url = f"https://{guarded.metrics}/metrics"
    curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(certificate[1])]
    without = subprocess.run([*curl, url], capture_output=True, text=True, check=True).stdout
    with_it = subprocess.run([*curl, "-H", f"Authorization: Bearer {TOKEN}", url], capture_output=True, text=True)
    assert (without, with_it.stdout) == ("401", "200")


def test_the_token_is_never_logged(guarded):
    assert TOKEN not in guarded.text()


def test_plain_requests_to_a_tls_port_get_nothing(guarded):
    client = tritonclient.http.InferenceServerClient(guarded.http, connection_timeout=5, network_timeout=5)
    with pytest.raises(Exception, match=r".*"):  # whichever of its errors the client raises
        client.get_server_metadata(headers=dict(BEARER))
    assert guarded.alive()


MISUSE = [
    ("an open host", ["--host", "0.0.0.0"], "token"),
    ("half of TLS", ["--tls-cert", "none.pem"], "--tls-key"),
    ("a missing token file", ["--token-file", "none"], "token file"),
    ("a port beyond", ["--http-port", "99999"], "99999"),
    ("a host of another machine", ["--host", "192.0.2.1", "--insecure"], "192.0.2.1"),
    ("a provider that is not there", ["--provider", "NoneExecutionProvider"], "NoneExecutionProvider"),
]


@pytest.mark.parametrize(("arguments", "saw"), [c[1:] for c in MISUSE], ids=[c[0] for c in MISUSE])
def test_misuse_exits_2_with_one_message(tmp_path, arguments, saw):
    small_model(tmp_path / "act.onnx")
    server = ServerProcess(tmp_path, *arguments)
    assert server.exit_code() == 2
    last = server.text().splitlines()[-1]
    assert last.startswith("error: ")
    assert saw in server.text()
    assert "Traceback" not in server.text()


@pytest.mark.parametrize("provider", ["CUDAExecutionProvider", "TensorrtExecutionProvider"])
@pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")
def test_a_gpus_provider_that_is_not_here_exits_3_before_it_listens(tmp_path, provider):
    small_model(tmp_path / "act.onnx")
    server = ServerProcess(tmp_path, "--provider", provider)
    assert server.exit_code() == 3
    assert server.text().startswith(f"error: provider {provider}, ") or f"{provider} without the NVIDIA driver" in (
        server.text()
    )  # with onnxruntime-gpu
    assert "pip install onnxruntime-gpu" in server.text() or "nstall r580" in server.text()
    assert not server.events()


def test_a_port_that_is_taken(server, tmp_path):
    small_model(tmp_path / "act.onnx")
    for option, address in (("--http-port", server.http), ("--grpc-port", server.grpc)):
        second = ServerProcess(tmp_path, option, address.split(":")[1])
        assert second.exit_code() == 2
        assert "free port" in second.text()


@pytest.mark.parametrize("name", ["../act", "..", "%2e%2e/act", "act/../act", "/etc/passwd", "act%00", "1"])
@pytest.mark.parametrize(
    "address", ["/v2/models/{}/infer", "/v2/repository/models/{}/load", "/v2/models/{}/config"]
)
def test_no_name_leaves_the_repository(server, name, address):
    status, _, _ = server.ask(address.format(name), b"{}" if "config" not in address else None)
    assert status == 404


OVERRIDES = [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}, {"file:../../x": "AAAA"}, {"anything": 1}]


@pytest.mark.parametrize("parameters", OVERRIDES, ids=lambda p: next(iter(p)))
def test_a_load_call_carries_no_configuration_and_no_file(server, parameters):
    status, _, body = server.ask("/v2/repository/models/act/load", {"parameters": parameters})
    assert status == 400
    assert b"repository" in body
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        with pytest.raises(InferenceServerException, match="repository"):
            client.load_model("act", config="{}")
        with pytest.raises(InferenceServerException, match="repository"):
            client.load_model("act", config="{}", files={"file:1/model.onnx": b"x"})
    assert server.infer([[1.0, 2.0, 3.0, 4.0]])[0] == 200


def test_idle_connections_do_not_hold_up_the_drain(tmp_path, certificate):
    """A client of TLS that says nothing at the end would be given 30 s."""
    key, pem = certificate
    small_model(tmp_path / "act.onnx")
    options = ("--tls-cert", pem, "--tls-key", key, "--drain-timeout", 600)
    with ServerProcess(tmp_path, *options) as server, contextlib.ExitStack() as stack:
        context = ssl.create_default_context(cafile=pem)
        for sent in (b"", b"GET /v2/health/li", b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n"):
            host, port = server.http.split(":")
            plain = stack.enter_context(socket.create_connection((host, int(port)), 60))
            connection = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            connection.sendall(sent)
        assert connection.recv(12) == b"HTTP/1.1 200"
        server.process.terminate()
        assert server.process.wait(15) == 0
