"""One build serves ONNX Runtime 1.17 to the newest: each version runs in a virtual environment of its own.

The environments are kept in the user's cache, so only the first run fetches them.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import canonical_models as models
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from platformdirs import user_cache_path

from apa_deploy.maths import Parameters

# The oldest with a wheel for the running Python (1.17 was built for numpy 1), one between, the pinned one.
OLDEST = ("onnxruntime==1.17.3", "numpy<2") if sys.version_info < (3, 13) else ("onnxruntime==1.20.1", "numpy")
VERSIONS = [
    OLDEST,
    ("onnxruntime==1.22.1", "numpy"),
    (f"onnxruntime=={metadata.version('onnxruntime')}", "numpy"),
]

X = (np.random.default_rng(7).random((2, 3, 20000)) * 12 - 6).astype(np.float32)
LAMBDAS, KAPPAS = (0.0, 0.5, 2.0), (1.0, 1.25, -0.5)
CASES = [
    # name, kind, dtype, error relative to max(1, |y|): the kernel's bound, and half a last place of the type
    ("float32", "AGLU", np.float32, 2.5e-7 * 2),  # lambda 2 lies above the bound's 1
    ("float16", "AGLU", np.float16, 2**-11 + 2.5e-7),
    ("float64", "APA", np.float64, 1e-14),
    ("gate", "APA", np.float32, 1.2e-7),
]


def _environment(requirements: tuple[str, ...]) -> Path:
    """The Python of a virtual environment with the requirements; skips where the index has no such wheel."""
    name = f"{requirements[0].replace('==', '-')}-py{sys.version_info.major}.{sys.version_info.minor}"
    folder = user_cache_path("apa-deploy") / "test-environments" / name
    python, ready = folder / "bin/python", folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.is_file():
            venv.create(folder, clear=True, with_pip=True)
            install = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *requirements]
            done = subprocess.run(install, capture_output=True, text=True)
            if "No matching distribution" in done.stderr and "from versions: none" not in done.stderr:
                pytest.skip(f"the package index has no {requirements[0]} for Python {sys.version.split()[0]}")
            assert done.returncode == 0, done.stderr
            ready.touch()
    return python


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, kind, dtype, error in CASES:
        x = X.astype(dtype)
        onnx_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        onnx.save(models.one_node(Parameters(LAMBDAS, KAPPAS), kind, onnx_type, X.shape), folder / f"{name}.onnx")
        channels = [models.truth(kind, x[:, c], LAMBDAS[c], KAPPAS[c]) for c in range(3)]
        y = np.stack(channels, axis=1)
        np.savez(folder / f"{name}.npz", x=x, y=y, error=error * np.maximum(1, np.abs(y)))
    onnx.save(models.one_node(Parameters((-1.0,), (1.0,))), folder / "bad_lambda.onnx")
    onnx.save(models.one_node(Parameters((1.0,), (1.0,)), dtype=TensorProto.INT64), folder / "bad_type.onnx")
    return folder


@pytest.mark.parametrize("requirements", VERSIONS, ids=[v[0] for v in VERSIONS])
def test_runs_in(library, cases, requirements):
    script = Path(__file__).with_name("run_in_version.py")
    command = [_environment(requirements), script, cases, library]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # A version that was asked for too high an API says so on stderr.
    assert "API version" not in done.stderr
