"""Many threads, and the operators inside the real ONNX Runtime under sanitizers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import canonical_models as models
import numpy as np
import onnx
import onnxruntime
import ort_building as building
import pytest

import apa_deploy
from apa_deploy.maths import Parameters

CHANNELS = Parameters((0.0, 0.5, 2.0), (1.0, 1.25, -0.5))
SHAPE = ("N", 3, "M")
BAD = [
    (Parameters((-1.0,), (1.0,)), "lambda[0] is -1"),
    (Parameters((1.0, float("nan"), 1.0), (1.0,)), "lambda[1] is nan"),
    (Parameters((1.0, 1.0), (1.0,)), "2 parameters for 3 channels"),
    (Parameters((1.0,) * 3, (1.0,), axis=7), "axis is 7"),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """ort_host.cc with the library's sources, compiled with some flags; called with (flags, arguments...)."""
    if building.compiler() is None:
        pytest.skip(building.NO_COMPILER)
    runtime = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)
    if runtime is None:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} has no libonnxruntime.so of its own")
    folder, programs = tmp_path_factory.mktemp("host"), {}

    def call(flags, *arguments):
        if flags not in programs:
            programs[flags] = _compiled(folder / f"host{len(programs)}", flags)
        command = [str(part) for part in (programs[flags], runtime, *arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return call


def _compiled(program, flags):
    fetch = [sys.executable, building.ROOT / "plugins/fetch/onnxruntime_headers.py"]
    headers = subprocess.run(fetch, capture_output=True, text=True, check=True).stdout.strip()
    include = [f"-I{folder}" for folder in (building.INCLUDE, building.ORT, headers)]
    sources = [building.TESTS / "ort_host.cc", *sorted(building.ORT.glob("*.cc"))]
    return building.compiled(program, "-g", *flags, "-DAPA_CLONES=", *include, *sources, "-pthread", "-ldl")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.saved(models.one_node(CHANNELS, shape=SHAPE), tmp_path_factory.mktemp("model"))


ADDRESS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# ONNX Runtime's own pool is not built for ThreadSanitizer, which would take the handing over of a task for a
# race: there the 16 threads run their tasks themselves.
THREAD = ("-O1", "-fsanitize=thread", "-fno-sanitize-recover=all")


@pytest.mark.parametrize(("flags", "pool"), [(ADDRESS, 1), (ADDRESS, 2), (THREAD, 1)])
def test_sixteen_threads_under_sanitizers(host, model, flags, pool):
    done = host(flags, "run", 2, 16, model, pool)
    assert done.returncode == 0 and ", 0 wrong" in done.stdout, done.stdout + done.stderr


def test_refusals_under_sanitizers(host, tmp_path):
    paths = [tmp_path / f"{i}.onnx" for i in range(len(BAD))]
    for path, (parameters, _) in zip(paths, BAD, strict=True):
        onnx.save(models.one_node(parameters, shape=SHAPE), path)
    done = host(ADDRESS, "refuse", *paths)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all("'act'" in line and says in line for line, (_, says) in zip(lines, BAD, strict=True)), lines


def test_running_allocates_nothing(host, model):
    done = host(("-O2", "-DAPA_COUNT_ALLOCATIONS"), "allocations", model)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_sixteen_threads_on_one_session_for_half_a_minute(library, model):
    inputs = [np.linspace(-5, 5, 6 * m, dtype=np.float32).reshape(2, 3, m) for m in (1, 17, 1000, 30000)]
    end, wrong, runs = time.monotonic() + 30, [], []

    def work(session, wanted, first):
        i = first
        while time.monotonic() < end:
            y = session.run({"x": inputs[i % 4]})["y"]
            if not np.array_equal(y, wanted[i % 4]):
                wrong.append(i)
            i += 1
        runs.append(i - first)

    with apa_deploy.Session(model, threads=2) as session:
        wanted = [session.run({"x": x})["y"] for x in inputs]
        threads = [threading.Thread(target=work, args=(session, wanted, t)) for t in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(runs) == 16 and min(runs) > 0
