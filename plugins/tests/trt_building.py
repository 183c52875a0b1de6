"""Compile the TensorRT plugin's sources for the tests: on the CPU, with sanitizers, no GPU and no TensorRT.

Needs a C++ compiler, the CUDA headers and TensorRT's headers; the last two are fetched where missing. Tests
skip where one cannot be had, with the reason; whatever else goes wrong fails them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from ort_building import is_newer

from apa_deploy import native
from apa_deploy.native import LibraryError

ROOT = Path(__file__).resolve().parents[2]
TESTS, INCLUDE, TENSORRT = ROOT / "plugins/tests", ROOT / "plugins/include", ROOT / "plugins/tensorrt"
FETCH = ROOT / "plugins/fetch"
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
# 1: fast enough to compile and to run; debug lines for the sanitizers' reports.
FLAGS = ("-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")


def compiler() -> str:
    """The C++ compiler, as CMake would choose it."""
    found = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        pytest.skip("no C++ compiler on this machine: install one (Debian: apt install g++)")
    return found


@cache
def fetched(script: str, *arguments: str) -> Path:
    """What plugins/fetch/<script> finds or fetches."""
    command = [sys.executable, str(FETCH / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


def include_flags(product: Path = TENSORRT, maths: Path = INCLUDE) -> list[str]:
    """Where the sources find the maths, the plugin's headers, CUDA's and TensorRT's."""
    cuda, tensorrt = fetched("nvcc.py", "headers"), fetched("tensorrt_headers.py")
    system = [cuda, cuda / "cccl", tensorrt]
    own = [TESTS, product, maths]
    return [f"-I{folder}" for folder in own] + [part for s in system for part in ("-isystem", str(s))]


def compiled(source: Path, target: Path, *flags: str, product: Path = TENSORRT, maths: Path = INCLUDE) -> Path:
    """Compile one source to an object."""
    command = [compiler(), *FLAGS, *flags, *include_flags(product, maths), "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return target


def linked(objects: Iterable[Path], target: Path, *flags: str) -> Path:
    """Link objects to a program."""
    command = [compiler(), *flags, *map(str, objects), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return target


class Programs:
    """Test programs made of named sources; each source is compiled once, in one folder.

    `product` and `maths`: where the sources of plugins/tensorrt and plugins/include lie.
    """

    def __init__(self, folder: Path, *flags: str, product: Path = TENSORRT, maths: Path = INCLUDE) -> None:
        self.folder, self.flags, self.product, self.maths = folder, flags, product, maths
        self.objects: dict[str, Path] = {}

    def program(self, *names: str) -> Path:
        """The program linked from these sources: of this folder, or of the product's."""
        target = self.folder / names[0].removesuffix(".cc")
        if not target.exists():
            missing = [name for name in names if name not in self.objects]
            with ThreadPoolExecutor(max_workers=2) as pool:
                self.objects.update(zip(missing, pool.map(self._compiled, missing), strict=True))
            linked([self.objects[name] for name in names], target, *self.flags)
        return target

    def _compiled(self, name: str) -> Path:
        source = TESTS / name if (TESTS / name).exists() else self.product / name
        target = self.folder / f"{name}.o"
        return compiled(source, target, *self.flags, product=self.product, maths=self.maths)


def ran(program: Path, *arguments: str | Path) -> str:
    """Run a test program, which prints what failed; return what it printed."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@cache
def library() -> Path:
    """libapa_trt.so: that of the installed package, or of this checkout, where it is brought up to date."""
    sources = [ROOT / "CMakeLists.txt", ROOT / "plugins/nvcc.cmake", *INCLUDE.rglob("*.h"), *TENSORRT.rglob("*.*")]
    build_part("libapa_trt.so", sources)
    try:
        return native.trt_plugin_library()
    except LibraryError as error:
        pytest.skip(str(error))


def build_part(name: str, sources: Iterable[Path]) -> None:
    """Build the libraries for GPUs where this checkout's `name` is older than its sources."""
    cmake = shutil.which("cmake")
    if ROOT not in native.FOLDER.parents or not cmake or is_newer(native.FOLDER / name, sources):
        return
    compiler()
    build = ROOT / "build/trt-tests"
    build.mkdir(parents=True, exist_ok=True)
    configure = ["-S", ROOT, "-B", build, "-DAPA_PARTS=tensorrt;onnxruntime_cuda"]
    with (build / "lock").open("w") as lock:  # several test processes share the folder
        fcntl.flock(lock, fcntl.LOCK_EX)
        for step in (configure, ["--build", build]):
            done = subprocess.run([cmake, *map(str, step)], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            if f"{name} is not built" in done.stderr:
                pytest.skip(done.stderr.strip().splitlines()[0])


def autoload_library() -> Path:
    """libapa_trt_autoload.so, beside `library()`."""
    library()
    return native.trt_autoload_library()
