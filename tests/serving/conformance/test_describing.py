"""What a server says about itself and its models, through every stock client."""

import time

import pytest
from endpoint import CLIENTS

CORE = {
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "classification",
}


@pytest.fixture(params=CLIENTS)
def kind(request):
    return request.param


@pytest.mark.parametrize("method", ["is_server_live", "is_server_ready"])
def test_healthy(endpoint, kind, method):
    assert endpoint.call(kind, method) is True


READINESS = [
    ("the model", lambda e: (e.model,), True),
    ("its version", lambda e: (e.model, "1"), True),
    ("a version that is absent", lambda e: (e.model, "9999"), False),
    ("a model that is absent", lambda e: ("no-such-model",), False),
    ("a path", lambda e: ("../" + e.model,), False),
]


@pytest.mark.parametrize(("arguments", "ready"), [c[1:] for c in READINESS], ids=[c[0] for c in READINESS])
def test_model_readiness(endpoint, kind, arguments, ready):
    assert endpoint.call(kind, "is_model_ready", *arguments(endpoint)) is ready


def test_server_metadata(endpoint, kind):
    said = endpoint.call(kind, "get_server_metadata")
    assert said["name"]
    assert said["version"]
    assert set(said["extensions"]) >= CORE


@pytest.mark.parametrize("version", ["", "1"])
def test_model_metadata(endpoint, kind, version):
    said = endpoint.call(kind, "get_model_metadata", endpoint.model, version)
    assert said["name"] == endpoint.model
    assert said["versions"] == ["1"]
    for side in ("inputs", "outputs"):
        assert said[side]
        assert all(tensor["name"] and tensor["datatype"].startswith("FP") for tensor in said[side])
        assert all(int(tensor["shape"][0]) == -1 for tensor in said[side])


def test_model_config(endpoint, kind):
    said = endpoint.call(kind, "get_model_config", endpoint.model)
    config = said.get("config", said)
    assert config["name"] == endpoint.model
    assert int(config["max_batch_size"]) > 1
    assert "dynamic_batching" in config
    for side, tensors in (("input", "inputs"), ("output", "outputs")):
        assert [tensor["name"] for tensor in config[side]] == [t["name"] for t in endpoint.metadata[tensors]]
        dims = [[int(n) for n in tensor["dims"]] for tensor in config[side]]
        assert dims == [[int(n) for n in tensor["shape"][1:]] for tensor in endpoint.metadata[tensors]]


def test_repository_index(endpoint, kind):
    said = endpoint.call(kind, "get_model_repository_index")
    rows = said["models"] if isinstance(said, dict) else said
    assert {"name": endpoint.model, "version": "1", "state": "READY"} in rows


def test_statistics_count_what_was_asked(endpoint, kind):
    def counts():
        said = endpoint.call(kind, "get_inference_statistics", endpoint.model)["model_stats"][0]
        success = said["inference_stats"]["success"]
        return [int(n) for n in (said.get("inference_count", 0), success.get("count", 0))]

    before = counts()
    for _ in range(3):
        endpoint.infer(kind, endpoint.feed(rows=2))
    wanted = [before[0] + 6, before[1] + 3]
    end = time.monotonic() + 5  # tritonserver counts a request after it has answered it
    while counts() != wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert counts() == wanted


def test_statistics_of_every_model(endpoint, kind):
    said = endpoint.call(kind, "get_inference_statistics")["model_stats"]
    assert endpoint.model in [row["name"] for row in said]
