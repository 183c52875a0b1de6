"""Many threads, and the operators inside the real ONNX Runtime under sanitizers."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
RUNS = 500  # of each thread: all are within Run at once for nearly all of them
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
    programs = {}

    def call(flags, *arguments):
        if flags not in programs:
            programs[flags] = _host_with(flags, tmp_path_factory.mktemp("host"))
        command = [str(part) for part in (programs[flags], runtime, *arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return call


def _host_with(flags, folder):
    fetch = [sys.executable, building.ROOT / "plugins/fetch/onnxruntime_headers.py"]
    headers = subprocess.run(fetch, capture_output=True, text=True, check=True).stdout.strip()
    include = [f"-I{path}" for path in (building.INCLUDE, building.ORT, headers)]
    kernels = {*building.KERNELS, *building.BYTE_KERNELS}
    for source in sorted(building.ORT.glob("*.cc")):
        if source in kernels:  # as other tests have compiled them
            building.kernel_object(source, folder, *flags)
        else:
            building.compiled(folder / f"{source.stem}.o", *flags, "-DAPA_CLONES=", *include, "-c", source)
    objects = sorted(folder.glob("*.o"))
    counting = ["-DAPA_COUNT_ALLOCATIONS"] if flags == COUNTING else []
    main = building.TESTS / "ort_host.cc"
    return building.compiled(folder / "host", *flags, *counting, *include, main, *objects, "-pthread", "-ldl")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.saved(models.one_node(CHANNELS, shape=SHAPE), tmp_path_factory.mktemp("model"))


ADDRESS = building.sanitized("address,undefined")
# ONNX Runtime's own pool is not built for ThreadSanitizer, which would take the handing over of a task for a
# race: there the 16 threads run their tasks themselves.
THREAD = building.sanitized("thread")
COUNTING = (*building.kernel_flags(), *building.for_instructions(building.instruction_sets()[-1]))


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
    done = host(COUNTING, "allocations", model)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sixteen_threads_on_one_session(library, model):
    inputs = [np.linspace(-5, 5, 6 * m, dtype=np.float32).reshape(2, 3, m) for m in (1, 17, 1000, 30000)]
    wrong = []

    def work(session, wanted, first):
        for i in range(first, first + RUNS):
            if not np.array_equal(session.run({"x": inputs[i % 4]})["y"], wanted[i % 4]):
                wrong.append(i)

    with apa_deploy.Session(model, threads=2) as session:
        wanted = [session.run({"x": x})["y"] for x in inputs]
        with ThreadPoolExecutor(16) as pool:
            assert len(list(pool.map(lambda t: work(session, wanted, t), range(16)))) == 16
    assert not wrong
