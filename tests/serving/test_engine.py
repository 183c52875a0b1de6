"""apa-serve on a TensorRT engine, where tests/standin stands in for the GPU."""

import json

import numpy as np
import pytest
from serving_models import write_passport
from serving_process import ServerProcess

from apa_deploy.runtimes.cuda_driver import device_count
from tests.standin.engines import standing_in
from tests.standin.machine import machine  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.skipif(device_count() > 0, reason="a real GPU would answer in the stand-in's place"),
]


@pytest.fixture
def engine(tmp_path):
    pytest.importorskip("cuda.bindings")
    path = tmp_path / "act.engine"
    path.write_bytes(standing_in())
    return path


def test_engine_is_served_with_its_own_signature(engine, machine):  # noqa: F811
    write_passport(engine, format="trt")
    with ServerProcess(engine, environment=machine.variables(11)) as server:
        status, _, body = server.ask("/v2/models/act")
        document = json.loads(body)
        assert (status, document["platform"]) == (200, "tensorrt_plan")
        assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert json.loads(server.ask("/v2/models/act/config")[2])["max_batch_size"] == 32
        x = np.linspace(-6, 6, 12, dtype=np.float32).reshape(3, 4)
        status, _, answer = server.infer(x.tolist())
        assert status == 200
        z = x.astype(np.float64)
        wanted = z * (1 + 0.5 * np.exp(-np.float64(np.float32(1.2)) * z)) ** -2
        # the function body's bound, 2e-6 of max(1, |y|), and |y| <= 6
        assert np.abs(np.reshape(answer["outputs"][0]["data"], (3, 4)) - wanted).max() < 1.2e-5
        assert server.infer([[0.0] * 4] * 33)[0] == 400


def test_untrusted_engine_is_not_served(engine, machine):  # noqa: F811
    server = ServerProcess(engine, environment=machine.variables(10))
    assert server.exit_code() == 2
    assert "no passport act.engine.passport.json" in server.text()
    with ServerProcess(engine, "--trust-engine", environment=machine.variables(10)) as trusting:
        assert trusting.infer([[1.0] * 4])[0] == 200
