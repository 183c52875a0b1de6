"""One build serves every onnxruntime-gpu of the table in docs/onnxruntime.md; tried without a GPU.

Each version comes first on the path of a process of its own. They are kept in the user's cache (a GB each).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import ort_cuda_building as building
import pytest
from packaging.version import Version

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters, aglu_float64
from tools.cached_packages import cached_packages, with_packages

DOCS = building.ROOT / "docs/onnxruntime.md"
DRIVER = building.ROOT / "tests/doctor/libcuda.c"
pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.version_info >= (3, 13), reason="1.17 has no such wheel")]


def versions():
    """From the table: a version, and the CUDA whose libraries it wants."""
    rows = re.findall(r"^\| (1\.[\d.]+) \| CUDA (\d+)[\d.]* \|", DOCS.read_text(), re.MULTILINE)
    assert len(rows) >= 3, "the table of docs/onnxruntime.md has no versions"
    return rows


def environment(version: str, folder: Path, **variables: str) -> dict[str, str]:
    old = Version(version) < Version("1.20")
    lock = folder / "lock.txt"
    lock.write_text(f"onnxruntime-gpu=={version}\n" + ("numpy==1.26.4\n" if old else ""))
    return with_packages(cached_packages("onnxruntime-gpu", lock), **variables)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    kernels = building.objects(folder, building.KERNELS, "-w")
    return building.library(), building.cpu_library(folder, kernels)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with a libcuda.so.1 that shows a GPU, so that CUDA's own libraries are what is missing."""
    folder = tmp_path_factory.mktemp("driver")
    command = [
        building.trt_building.compiler(),
        "-x",
        "c",
        "-shared",
        "-fPIC",
        "-DSERVES=13000",  # of every version in the table
        DRIVER,
        "-o",
        folder / "libcuda.so.1",
    ]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    # the kernels' bound (trt_reference.h), and half a last place of the type
    for name, dtype, error in (("float16", np.float16, 2**-11 + 1.5e-6), ("float32", np.float32, 1.5e-6)):
        x = (np.random.default_rng(7).random((2, 3, 2000)) * 12 - 6).astype(dtype)
        parameters = Parameters((0.0, 0.5, 2.0), (1.0, 1.25, -0.5))
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        values = [onnx.helper.make_tensor_value_info(value, kind, ("N", 3, "M")) for value in ("x", "y")]
        graph = onnx.helper.make_graph(
            [make_node("AGLU", "x", "y", parameters, "act")], "g", values[:1], values[1:]
        )
        domains = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.apa", 1)]
        model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=8)
        onnx.save(with_functions(model), folder / f"{name}.onnx")
        channels = (np.float32(v).reshape(1, 3, 1) for v in (parameters.lambda_, parameters.kappa))
        y = aglu_float64(x, *channels)
        np.savez(folder / f"{name}.npz", x=x, y=y, error=error * np.maximum(1, np.abs(y)))
    return folder


@pytest.mark.parametrize(("version", "cuda"), versions())
@pytest.mark.parametrize("with_driver", [True, False])
def test_runs_in(libraries, driver, cases, tmp_path, version, cuda, with_driver):
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    folders = os.pathsep.join([str(driver)] * with_driver)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("ort_cuda_child.py"), *libraries, cases],
        capture_output=True, text=True, cwd=building.ROOT,
        env=environment(version, tmp_path, LD_LIBRARY_PATH=folders),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "API version" not in done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["version"] == version
    assert set(said["errors"]) == {"float16", "float32"} and max(said["errors"].values()) <= 1
    wanted = f"cannot start: libcublasLt.so.{cuda}: cannot open" if with_driver else "without the NVIDIA driver"
    assert wanted in said["answer"]
