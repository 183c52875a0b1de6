"""Fixtures: a machine with a GPU and TensorRT, neither of which is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGET_ONLY = HERE / "target_only"
STUBS, STUBS_VERSION = "tensorrt-stubs", "10.13.0.35.1"
LEAN = ("tensorrt-lean-cu13-bindings==11.4.0.106", "tensorrt-lean-cu13-libs==11.4.0.106")
MAJORS = (10, 11)


@dataclass
class Machine:
    """`folder`: its libraries; `apis`: the types of TensorRT, by major version; `lean`: NVIDIA's Python code."""

    folder: Path
    apis: dict[int, Path]
    lean: Path = Path()

    def variables(self, major: int = 10, **more: str) -> dict[str, str]:
        """Those of a process that is to have TensorRT `major`."""
        path = os.pathsep.join([str(HERE / "site"), os.environ.get("PYTHONPATH", "")])
        known = {
            "STANDIN_API": str(self.apis[major]),
            "STANDIN_LEAN": str(self.lean),
            "LD_LIBRARY_PATH": str(self.folder),
            "PYTHONPATH": path,
        }
        return known | more

    def with_runtime(self) -> Path:
        """A folder with a CUDA runtime over the driver, for users' code: no code of ours needs one."""
        folder = self.folder / "runtime"
        if not folder.exists():
            folder.mkdir()
            command = ["cc", "-shared", "-fPIC", str(HERE / "cudart.c"), f"-L{self.folder}", "-l:libcuda.so.1"]
            subprocess.run([*command, "-o", str(folder / "libcudart.so")], check=True)
        return folder


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Machine:
    """Skips where the type information cannot be had."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("standin")
    driver = folder / "libcuda.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", str(HERE / "cuda.c"), "-o", str(driver), "-ldl", "-lm"], check=True
    )
    site = Path(request.config.cache.mkdir("tensorrt-types"))
    stubs = _installed(site / "stubs", f"{STUBS}=={STUBS_VERSION}") / "tensorrt_bindings" / "tensorrt.pyi"
    lean = _installed(site / "lean", *LEAN)
    apis = {10: folder / "api10.json", 11: folder / "api11.json"}
    apis[10].write_bytes(_api(stubs, STUBS_VERSION))
    apis[11].write_bytes(_api(stubs, "", "tensorrt_lean_bindings", "tensorrt_rtx", path=lean))
    return Machine(folder, apis, lean / "tensorrt_lean_bindings")


def _installed(target: Path, *names: str) -> Path:
    """Once, and kept with pytest's cache. Without dependencies: the stubs want the real package."""
    if not target.is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), *names]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(target, ignore_errors=True)
            pytest.skip(f"{' '.join(names)} cannot be had: {done.stderr.strip().splitlines()[-1]}")
    return target


def _api(*arguments: str | Path, path: Path | None = None) -> bytes:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, str(HERE / "api.py"), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout
