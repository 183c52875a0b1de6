"""The Ray Serve application on a real cluster of this machine, on loopback."""

import os
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.http as client
from serving_models import TOLERANCE, small_model, truth

from apa_deploy.serving.ray_app import RayOptions, application

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own
]


def _start_cluster(ray, tries=3):
    """Ray gives a node half a minute to start, which on a machine full of other tests may be too little."""
    loopback = {"address": "local", "_node_ip_address": "127.0.0.1", "include_dashboard": False}
    try:
        ray.init(**loopback, num_cpus=2, object_store_memory=80 << 20, log_to_driver=False)
    except Exception:
        ray.shutdown()
        if tries == 1:
            raise
        _start_cluster(ray, tries - 1)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Two replicas behind Ray's proxy."""
    folder = tmp_path_factory.mktemp("ray")
    small_model(folder / "act.onnx")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DISABLE_MEMORY_MONITOR"] = "1"  # of a machine that other tests share
    import ray  # here, for it takes seconds that other workers need not spend
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    _start_cluster(ray)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(application(RayOptions(source=folder, min_replicas=2, max_replicas=2, max_batch=8)), name="apa")
    yield f"127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def _infer(connection, x):
    tensor = client.InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    return connection.infer("act", [tensor])


def test_values_through_the_proxy(address):
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    with client.InferenceServerClient(address) as connection:
        assert connection.is_server_ready()
        assert connection.is_model_ready("act")
        result = _infer(connection, x)
    for name, wanted in truth(x).items():
        np.testing.assert_allclose(result.as_numpy(name), wanted, rtol=0, atol=TOLERANCE)


def _ask_many(address, seed):
    """64 requests at once, each held against the truth; then the replicas' counts of rows, as many as are met."""
    x = np.random.default_rng(seed).standard_normal((64, 1, 4)).astype(np.float32)
    with client.InferenceServerClient(address, concurrency=16) as connection:
        tensors = [client.InferInput("x", [1, 4], "FP32") for _ in x]
        for tensor, row in zip(tensors, x, strict=True):
            tensor.set_data_from_numpy(row)
        waiting = [connection.async_infer("act", [tensor]) for tensor in tensors]
        for row, one in zip(x, waiting, strict=True):
            got = one.get_result().as_numpy("y")
            np.testing.assert_allclose(got, truth(row)["y"], rtol=0, atol=TOLERANCE)
        said = [connection.get_inference_statistics("act")["model_stats"][0] for _ in range(40)]
    return {int(one["inference_count"]) for one in said}


def test_every_replica_answers_and_each_request_gets_its_own(address):
    # each replica counts for itself: two counts above 0, between which nothing was inferred, are two replicas
    counted = (_ask_many(address, seed) for seed in range(10))
    assert any(len(counts) == 2 and min(counts) > 0 for counts in counted)


REFUSED = [
    ("an unknown model", "/v2/models/none/infer", b"{}", 404),
    ("a malformed body", "/v2/models/act/infer", b"what", 400),
    ("a load call, which would reach one replica", "/v2/repository/models/act/load", b"", 501),
]


@pytest.mark.parametrize(("path", "body", "code"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refusals_keep_their_code(address, path, body, code):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", body, method="POST"), timeout=30)
    assert refused.value.code == code
    assert b"error" in refused.value.read()
