"""A real tritonserver loads every generated repository and passes the conformance suite of apa-serve."""

import io
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as client
from PIL import Image
from triton_repositories import STAND_IN
from tritonclient.utils import InferenceServerException
from watched import watched

from apa_deploy import Session
from benchmarks.tritonserver import TritonServer

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
CONTROL = ("--model-control-mode=explicit", "--load-model=*")  # the suite unloads and loads
ABSENT = {"tensorrt": STAND_IN, "onnxruntime": STAND_IN}


def _smoke(repository, address):
    return subprocess.run([str(repository / "smoke-test"), address], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("backend", ["onnxruntime", "python", "tensorrt"])
def test_loads_and_conforms(repositories, act, triton_environment, tmp_path, backend):
    repository = repositories[backend]
    with TritonServer(triton_environment, repository, tmp_path, *CONTROL, stand_ins=ABSENT) as server:
        smoke = _smoke(repository, server.http)
        assert smoke.returncode == 0, smoke.stderr
        assert smoke.stdout.startswith(backend)
        command = Path(f"/proc/{server.process.pid}/cmdline").read_text().split("\0")
        plugin = f"--backend-config=tensorrt,plugins={repository}/tensorrt/libapa_trt_autoload.so"
        assert (plugin in command) == (backend == "tensorrt")
        assert "failed" not in server.text()
        _conforms(server, backend, act)
        _has_every_metric_that_is_watched(server)
    assert server.process.returncode == 0


def _has_every_metric_that_is_watched(server):
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=30) as answer:
        found = {line.partition("{")[0] for line in answer.read().decode().splitlines()}
    assert watched("nv")
    assert watched("nv") <= found


def _conforms(server, model, onnx):
    asked = {"HTTP": server.http, "GRPC": server.grpc, "MODEL": model, "ONNX": onnx}
    environment = os.environ | {f"APA_CONFORMANCE_{key}": str(value) for key, value in asked.items()}
    suite = TESTS / "serving" / "conformance"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--confcutdir={suite}", str(suite)]
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def _encoded(picture, kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def _asked(http, *encoded, classes=0):
    images = client.InferInput("image", [len(encoded), 1], "BYTES")
    images.set_data_from_numpy(np.array([[one] for one in encoded], np.object_))
    with client.InferenceServerClient(http) as connection:
        outputs = [client.InferRequestedOutput("logits", class_count=classes)]
        return connection.infer("pics", [images], outputs=outputs).as_numpy("logits")


def test_pictures_become_classes(pictures, triton_environment, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    png, jpeg = (_encoded(Image.fromarray(noise), kind) for kind in ("PNG", "JPEG"))
    with TritonServer(triton_environment, pictures, tmp_path, stand_ins=ABSENT) as server:
        smoke = _smoke(pictures, server.http)
        assert smoke.returncode == 0, smoke.stderr
        together = _asked(server.http, png, jpeg)
        with pytest.raises(InferenceServerException, match="not a picture"):
            _asked(server.http, b"GIF8 no")
        label = _asked(server.http, png, classes=1)[0, 0].decode()
        _faults_turn_the_smoke_test_red(pictures, server.http)
    with Session(pictures / "pics_network" / "1" / "model.onnx", threads=1) as session:
        # 64x48, shorter side to 37 (32 / 0.875): 49x37; the middle 32x32 begins at (8, 2)
        crops = [
            np.asarray(Image.open(io.BytesIO(one)).resize((49, 37), Image.Resampling.BILINEAR))[2:34, 8:40]
            for one in (png, jpeg)
        ]
        wanted = session.run({"input": np.stack(crops)})["logits"]
    # the same file on the same runtime in another batch: float32 rounding of sums over some 100 products
    np.testing.assert_allclose(together, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert label.endswith(("ant", "bee", "cow", "dog", "eel")[int(wanted[0].argmax())])


def _faults_turn_the_smoke_test_red(repository, address):
    stored = repository / "pics" / "smoke" / "output0"
    right = stored.read_bytes()
    wrong = np.frombuffer(right, np.float32)[::-1]
    try:
        stored.write_bytes(wrong.tobytes())
        smoke = _smoke(repository, address)
    finally:
        stored.write_bytes(right)
    assert smoke.returncode == 1
    assert "off; wanted at most" in smoke.stderr
