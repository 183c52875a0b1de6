"""One build serves ONNX Runtime 1.17 to the newest, and each does what the table of docs/onnxruntime.md says.

Each version comes first on the path of a process of its own. They are kept in the user's cache, so only the first
run fetches them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import canonical_models as models
import numpy as np
import onnx
import pytest
import torch
from blocked_networks import exported, resnet
from onnx import TensorProto
from packaging.version import Version

from apa_deploy.calibration import Quantisation, quantise
from apa_deploy.calibration.data import CalibrationData
from apa_deploy.graph.functions import with_functions
from apa_deploy.maths import Parameters
from tests.quantise_networks import build, residual
from tools.cached_packages import cached_packages, with_packages

DOCS = Path(__file__).parents[2] / "docs/onnxruntime.md"
PINNED = metadata.version("onnxruntime")
# 1.17 to 1.19 have no wheel for Python 3.13, and those before 1.19 were built for numpy 1.
FIRST = Version("1.17") if sys.version_info < (3, 13) else Version("1.20")
LAST_OF_NUMPY_1 = Version("1.20")


def versions():
    """From the table: a version, and what a session on the CPU does there."""
    rows = re.findall(r"^\| (1\.[^|]+) \| (\w+) \| (\w+) \|$", DOCS.read_text(), re.MULTILINE)
    found = {name: tuple(said) for names, *said in rows for name in names.split(", ")}
    named = [name for name in found if Version(name) >= FIRST]
    # the oldest, the last without the blocked layout, and the pinned one
    every_time = {named[0], [n for n in named if found[n][1] == "plain"][-1], PINNED}
    assert len(every_time) == 3, f"{PINNED} is not in the table"
    for name in named:
        yield pytest.param(name, *found[name], marks=[] if name in every_time else pytest.mark.long)


X = (np.random.default_rng(7).random((2, 3, 20000)) * 12 - 6).astype(np.float32)
LAMBDAS, KAPPAS = (0.0, 0.5, 2.0), (1.0, 1.25, -0.5)
CASES = [
    # name, kind, dtype, error relative to max(1, |y|): the kernel's bound, and half a last place of the type
    ("float32", "AGLU", np.float32, 2.5e-7 * 2),  # lambda 2 lies above the bound's 1
    ("float16", "AGLU", np.float16, 2**-11 + 2.5e-7),
    ("float64", "APA", np.float64, 1e-14),
    ("gate", "APA", np.float32, 1.2e-7),
]


def environment(version: str, folder: Path) -> dict[str, str]:
    """The variables of a process with this version; numpy 1 goes with the old ones."""
    fresh = {"XDG_CACHE_HOME": str(folder)}  # a model is prepared anew
    if version == PINNED:
        return os.environ | fresh
    lock = folder / "lock.txt"
    old = Version(version) < LAST_OF_NUMPY_1
    lock.write_text(f"onnxruntime=={version}\n" + ("numpy==1.26.4\n" if old else ""))
    return with_packages(cached_packages("onnxruntime", lock), **fresh)


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
    network = resnet()
    exported(network, folder / "layout.onnx")
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        y = network.double()(torch.from_numpy(x).double()).numpy()
    # float32 rounds a sum of some hundred products at each of nine layers
    np.savez(folder / "layout.npz", x=x, y=y, error=np.full(1, 1e-4 * np.abs(y).max()))
    samples = np.random.default_rng(3).standard_normal((32, 3, 16, 16)).astype(np.float32)
    data = CalibrationData({"x": samples}, None, "samples")
    coded = quantise(with_functions(build(residual)), data, Quantisation(reduced=True, judge=False)).proto
    coded.ir_version = 8  # as our exports have it
    onnx.save(coded, folder / "coded.onnx")
    return folder


@pytest.mark.parametrize(("version", "operators", "layout"), list(versions()))
def test_runs_in(library, cases, tmp_path, version, operators, layout):
    script = Path(__file__).with_name("run_in_version.py")
    done = subprocess.run(
        [sys.executable, script, cases, library],
        capture_output=True, text=True, env=environment(version, tmp_path), cwd=DOCS.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # A version that was asked for too high an API says so on stderr.
    assert "API version" not in done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["version"], said["operators"]) == (version, operators)
    assert said["layout"] in (layout, "none here")
    assert said["coded"], "a model in 8 bits is not prepared"
