"""System shared memory, as tritonclient uses it, and what must not be had by it."""

import asyncio
import os
import threading
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from serving_models import TOLERANCE, small_model, truth
from serving_process import ServerProcess
from tritonclient.utils import InferenceServerException

import apa_deploy.serving.shared_memory
from apa_deploy.serving.budget import Budget
from apa_deploy.serving.errors import OverloadedError, RequestError
from apa_deploy.serving.request import InferRequest, Place, StoredTensor
from apa_deploy.serving.shared_memory import Regions

X = np.array([[-1.0, 0.5, 1.0, 2.0]], np.float32)
MODULES = pytest.mark.parametrize("module", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])


@pytest.fixture
def segment():
    """A segment of 64 bytes with X in front."""
    one = shared_memory.SharedMemory(create=True, size=64)
    one.buf[: X.nbytes] = X.tobytes()
    yield one
    one.close()
    one.unlink()


def client_of(module, server):
    return module.InferenceServerClient(server.http if module is tritonclient.http else server.grpc)


def in_memory(module, region="in", size=X.nbytes, offset=0):
    tensor = module.InferInput("x", list(X.shape), "FP32")
    tensor.set_shared_memory(region, size, offset)
    return [tensor]


def wanted(module, name, region, size, offset=0):
    output = module.InferRequestedOutput(name)
    output.set_shared_memory(region, size, offset)
    return output


@MODULES
def test_inputs_and_outputs_in_a_segment(server, segment, module):
    client = client_of(module, server)
    client.register_system_shared_memory("in", f"/{segment.name}", 32)
    client.register_system_shared_memory("out", f"/{segment.name}", 16, offset=32)
    try:
        status = client.get_system_shared_memory_status(**({"as_json": True} if "grpc" in module.__name__ else {}))
        assert "in" in str(status) and "out" in str(status)
        outputs = [wanted(module, "y", "out", 16), module.InferRequestedOutput("g")]
        answer = client.infer("act", in_memory(module), outputs=outputs)
        y = np.frombuffer(bytes(segment.buf[32:48]), np.float32).reshape(1, 4)
        np.testing.assert_allclose(y, truth(X)["y"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(answer.as_numpy("g"), truth(X)["g"], rtol=0, atol=TOLERANCE)
    finally:
        client.unregister_system_shared_memory()
    with pytest.raises(InferenceServerException, match="region"):
        client.infer("act", in_memory(module))


@MODULES
@pytest.mark.parametrize(
    ("region", "size", "offset"),
    [("none", 16, 0), ("in", 64, 0), ("in", 16, 17), ("in", 2**62, 0), ("in", 15, 0), ("in", 0, 0)],
)
def test_what_is_not_within_the_region(server, segment, module, region, size, offset):
    client = client_of(module, server)
    client.register_system_shared_memory("in", segment.name, 32)
    try:
        with pytest.raises(InferenceServerException):
            client.infer("act", in_memory(module, region, size, offset))
        with pytest.raises(InferenceServerException):
            client.infer("act", in_memory(module), outputs=[wanted(module, "y", region, min(size, 8), offset)])
    finally:
        client.unregister_system_shared_memory("in")
    assert server.infer(X.tolist())[0] == 200


@MODULES
def test_a_segment_that_is_cut_short_does_not_end_the_server(server, segment, module):
    client = client_of(module, server)
    client.register_system_shared_memory("in", segment.name, 64)
    try:
        os.truncate(Path("/dev/shm") / segment.name, 8)
        with pytest.raises(InferenceServerException, match="cut short"):
            client.infer("act", in_memory(module))
        tensor = module.InferInput("x", list(X.shape), "FP32")
        tensor.set_data_from_numpy(X)
        with pytest.raises(InferenceServerException, match="cut short"):
            client.infer("act", [tensor], outputs=[wanted(module, "y", "in", 32)])
        assert (Path("/dev/shm") / segment.name).stat().st_size == 8
    finally:
        os.truncate(Path("/dev/shm") / segment.name, 64)
        client.unregister_system_shared_memory()
    assert server.alive()


KEYS = [
    "",
    "/",
    "..",
    "../etc/passwd",
    "/../etc/passwd",
    "/etc/passwd",
    "no-such-segment",
    "a/b",
    "a\0b",
    "a\ud800",
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_that_are_no_segment(server, key):
    status, _, body = server.ask("/v2/systemsharedmemory/region/r/register", {"key": key, "byte_size": 8})
    assert status == 400, body


def test_links_and_other_users_segments_are_refused(server, segment):
    link = Path("/dev/shm") / f"{segment.name}-link"
    link.symlink_to("/etc/passwd")
    try:
        body = {"key": link.name, "byte_size": 8}
        assert server.ask("/v2/systemsharedmemory/region/r/register", body)[0] == 400
    finally:
        link.unlink()
    if os.geteuid() == 0:
        os.chown(Path("/dev/shm") / segment.name, 65534, 65534)
        status, _, said = server.ask(
            "/v2/systemsharedmemory/region/r/register", {"key": segment.name, "byte_size": 8}
        )
        assert status == 400
        assert b"another user" in said


def test_names_and_numbers(server, segment):
    path = "/v2/systemsharedmemory/region/r/register"
    for bad in ({"byte_size": -1}, {"byte_size": 65}, {"byte_size": "8"}, {"byte_size": 0}, {"byte_size": 10**400},
                {"byte_size": 8, "offset": 60}, {"byte_size": 8, "offset": -1}):  # fmt: skip
        assert server.ask(path, {"key": segment.name, **bad})[0] == 400
    assert server.ask(path, {"key": 7, "byte_size": 8})[0] == 400
    assert server.ask(path, {"key": segment.name, "byte_size": 8})[0] == 200
    assert server.ask(path, {"key": segment.name, "byte_size": 8})[0] == 400  # the name is taken
    assert server.descriptors(segment.name.strip("/")) == 1
    assert server.ask("/v2/systemsharedmemory/region/r/status")[0] == 200
    assert server.ask("/v2/systemsharedmemory/region/none/status")[0] == 404
    assert server.ask("/v2/systemsharedmemory/region/r/unregister", b"")[0] == 200
    assert server.descriptors(segment.name.strip("/")) == 0


def test_an_open_server_takes_none(tmp_path, segment):
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path, "--host", "0.0.0.0", "--insecure") as server:
        body = {"key": segment.name, "byte_size": 8}
        assert server.ask("/v2/systemsharedmemory/region/r/register", body)[0] == 501


async def fetch(regions, stored, budget):
    request = InferRequest({}, stored)
    with budget.share() as share:
        await regions.fetch(request, ["x", "z"], share)
        return request.inputs, budget.held


def stored(size, region="in"):
    return StoredTensor(Place(region, 0, size), "UINT8", (size,))


@pytest.fixture
def regions(segment):
    one = Regions(1 << 20, allowed=True)
    one.register("in", segment.name, 0, 64)
    return one


def test_what_is_read_counts_as_pending(regions):
    inputs, held = asyncio.run(fetch(regions, {"x": stored(16), "z": stored(64)}, Budget(80)))
    assert held == 80
    np.testing.assert_array_equal(inputs["x"].view(np.float32), X[0])


REFUSED = [
    ("beyond what is free", {"x": stored(16), "z": stored(64)}, OverloadedError),
    ("another input", {"x": stored(16), "other": stored(16)}, RequestError),
    ("a region that is not there", {"x": stored(16), "z": stored(16, "none")}, RequestError),
]


@pytest.mark.parametrize(("tensors", "error"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_nothing_is_read_of_what_is_refused(regions, monkeypatch, tensors, error):
    monkeypatch.setattr("apa_deploy.serving.shared_memory._read_all", lambda *_: pytest.fail("it was read"))
    budget = Budget(79)
    with pytest.raises(error):
        asyncio.run(fetch(regions, tensors, budget))
    assert budget.held == 0


def test_large_ones_are_read_beside_the_loop_though_their_region_is_forgotten(monkeypatch, regions):
    def read(*arguments):
        threads.append(threading.current_thread())
        regions.unregister("")
        return read_all(*arguments)

    threads, read_all = [], apa_deploy.serving.shared_memory._read_all
    monkeypatch.setattr("apa_deploy.serving.shared_memory._read_all", read)
    monkeypatch.setattr("apa_deploy.serving.shared_memory.LARGE_BYTES", 15)
    inputs, _ = asyncio.run(fetch(regions, {"x": stored(16)}, Budget(16)))
    np.testing.assert_array_equal(inputs["x"].view(np.float32), X[0])
    assert threads != [threading.main_thread()]
