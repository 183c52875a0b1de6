"""benchmarks.cpu: every row beside other runtimes runs, on a network of a few layers; no time is asserted."""

import math
import shutil

import pytest

pytest.importorskip("openvino", reason="the extra openvino is not installed")

import openvino

from benchmarks import cpu_worker
from benchmarks.cpu import measure_rows, rows_of, runtimes, small
from benchmarks.cpu_networks import SHAPES

pytestmark = pytest.mark.usefixtures("library")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile wants a C++ compiler")
def test_every_row_runs_in_processor_time_on_one_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = measure_rows(rows_of("small", 1, "process"), tmp_path, rounds=1)
    others = ["torch.onnx's export in ONNX Runtime", "OpenVINO (f32) on our decomposed graph",
              "OpenVINO (default) on our decomposed graph", "torch.compile"]  # fmt: skip
    assert [row["what"] for row in results] == [
        *(f"a small network / {other}" for other in others),
        "a small network in 8 bits / in float32",
    ]
    for row in results:
        times = row["samples_ms"]["ours"] + row["samples_ms"]["other"]
        assert len(times) == 16 and all(0 < t < math.inf for t in times), row["what"]
    assert len(list(tmp_path.glob("cache/apa-deploy/prepared/*.onnx"))) == 2, "float32 and 8 bits are prepared"


def test_the_rows_are_those_of_the_large_network():
    """So that what runs above is what the documents' figures come from."""
    for one, large in zip(small(), runtimes(), strict=True):
        for a, b in ((one.ours, large.ours), (one.other, large.other)):
            assert (a.runtime, a.layout, a.path.replace("small", "resnet50")) == (b.runtime, b.layout, b.path)


@pytest.mark.parametrize(("runtime", "precision"), [("openvino", "f32"), ("openvino default", None)])
def test_openvino_chooses_its_precision_in_its_default_row_alone(runtime, precision, monkeypatch):
    asked = []

    class Core:
        def compile_model(self, path, device, options):
            asked.append((device, options))
            return self

        def create_infer_request(self):
            return None

    monkeypatch.setattr(openvino, "Core", Core)
    job = {
        "path": "m.onnx",
        "runtime": runtime,
        "threads": 1,
        "batch": 1,
        "shape": SHAPES["small"],
        "inputs": "normal",
    }
    cpu_worker.RUNTIMES[runtime](job)
    ((device, options),) = asked
    assert (device, options.get("INFERENCE_PRECISION_HINT"), options["INFERENCE_NUM_THREADS"]) == (
        "CPU",
        precision,
        1,
    )
