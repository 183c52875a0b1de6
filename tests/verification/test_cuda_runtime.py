"""Polygraphy finds the CUDA runtime in whatever folder of the wheels it lies, and none too new for the driver."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import apa_deploy
from tests.standin.machine import machine  # noqa: F401 - a fixture

CHILD = """
from apa_deploy.verification.tensorrt_runner import open_cuda_runtime
from polygraphy import cuda
open_cuda_runtime()
print(cuda.wrapper().handle._name)
"""
WHEELS = {"cu13": 13, "cuda_runtime": 12}


@pytest.mark.parametrize(("driver", "folder"), [("13000", "cu13"), ("12080", "cuda_runtime")])
def test_runtime_of_the_wheels_is_found(driver, folder, machine, tmp_path):  # noqa: F811
    for name, major in WHEELS.items():
        library = tmp_path / "nvidia" / name / "lib" / f"libcudart.so.{major}"
        library.parent.mkdir(parents=True)
        shutil.copy(machine.folder / "libcuda.so.1", library)
    variables = machine.variables(STANDIN_CUDA=driver)
    variables["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(Path(apa_deploy.__file__).parents[1])])
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "nvidia" / folder / "lib" / f"libcudart.so.{WHEELS[folder]}")


def test_without_any_the_command_is_named(monkeypatch):
    from polygraphy import cuda
    from polygraphy.exception import PolygraphyException

    from apa_deploy.errors import MissingError
    from apa_deploy.verification import tensorrt_runner

    def fail():
        raise PolygraphyException("Could not find the CUDA runtime library.")

    monkeypatch.setattr(cuda, "wrapper", fail)
    monkeypatch.setattr(tensorrt_runner, "cuda_version", lambda: (12, 8))
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    with pytest.raises(MissingError, match="pip install nvidia-cuda-runtime-cu12"):
        tensorrt_runner.open_cuda_runtime()
