"""Compile for GPUs: the programs that test kernels and libraries on a device, and the libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apa_deploy.child_process import last_line
from apa_deploy.errors import GateError, MissingError

ROOT = Path(__file__).resolve().parents[2]
PLUGIN, TESTS, DEVICE = ROOT / "plugins/tensorrt", ROOT / "plugins/tests", Path(__file__).parent / "device"
_INCLUDE, FETCH = ROOT / "plugins/include", ROOT / "plugins/fetch"
OPERATORS = "ort_cuda_on_device_test"
# By the part of the build that makes them.
LIBRARIES = {"tensorrt": "libapa_trt.so", "onnxruntime_cuda": "libapa_ort_cuda.so"}
# The kernels under another name, so that device/copies.cc can stand before them.
_RENAMED = "-Drun=run_resident"
SUITES = {
    "trt_error_test.cc": ("float32", "float16", "bfloat16", "signed_zero"),
    "trt_layout_test.cc": ("formats", "strides", "tails", "misaligned_formats", "zero_elements"),
}
_KERNELS = tuple(PLUGIN / n for n in ("kernels.cu", "kernels_codes.cu", "activation.cc", "layout.cc"))
_TESTED = (*_KERNELS, PLUGIN / "formats.cc", DEVICE / "copies.cc")


def fetch(script: str) -> Path:
    """What plugins/fetch/<script> finds or fetches.

    Raises:
        MissingError: it cannot be had.
    """
    done = subprocess.run([sys.executable, str(FETCH / script)], capture_output=True, text=True)
    if done.returncode:
        raise MissingError(
            last_line(done.stderr).removeprefix("apa-deploy: ").rstrip("."),
            f"what {script} finds",
            "Install what it names, or allow the build to fetch it.",
        )
    return Path(done.stdout.strip().splitlines()[-1])


def programs(folder: Path, architectures: Sequence[int], ptx: int | None = None) -> dict[str, Path]:
    """Every program that runs on the device, by name; OPERATORS where ONNX Runtime's headers can be had.

    Args:
        architectures: compute capabilities to compile for (89 is 8.9); `ptx`: that of the text for later ones.

    Raises:
        MissingError: nvcc, a C++ compiler or TensorRT's headers cannot be had.
        GateError: what is here does not compile.
    """
    headers = [fetch("tensorrt_headers.py"), *_operator_headers()]
    compiler = Compiler(folder, architectures, ptx, headers)
    suites = [TESTS / name for name in SUITES]
    parts = {
        **{source.stem: (source, *_TESTED) for source in suites},
        "bandwidth": (DEVICE / "bandwidth.cc", *_KERNELS),
        "chain": (DEVICE / "chain.cu", *_KERNELS),
        "exhaustive": (DEVICE / "exhaustive.cu",),
        "trt_on_device_test": (TESTS / "trt_on_device_test.cc", TESTS / "trt_loaded.cc"),
    }
    if len(headers) > 1:
        parts[OPERATORS] = (TESTS / f"{OPERATORS}.cc", TESTS / "ort_cuda_loaded.cc")
    sources = list(dict.fromkeys(source for needed in parts.values() for source in needed))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        objects = dict(zip(sources, pool.map(compiler.compile, sources), strict=True))
    return {name: compiler.link(name, [objects[source] for source in needed]) for name, needed in parts.items()}


class Compiler:
    """nvcc for some architectures, into one folder."""

    def __init__(
        self, folder: Path, architectures: Sequence[int], ptx: int | None, headers: Sequence[Path]
    ) -> None:
        self._folder, self._nvcc = folder, str(fetch("nvcc.py"))
        self._host = _host_compiler()
        self._flags = ["-std=c++17", "-O3", "-Xfatbin", "-compress-all"]  # four programs hold the same kernels
        for one in architectures:
            self._flags += ["-gencode", f"arch=compute_{one},code=sm_{one}"]
        if ptx:
            self._flags += ["-gencode", f"arch=compute_{ptx},code=compute_{ptx}"]
        for include in (PLUGIN, _INCLUDE, TESTS):
            self._flags += ["-I", str(include)]
        for others in headers:
            self._flags += ["-isystem", str(others)]

    def compile(self, source: Path) -> Path:
        """One object."""
        target = self._folder / f"{source.name}.o"
        renamed = [_RENAMED] if source in _KERNELS and source.suffix == ".cu" else []
        _run([self._nvcc, "-ccbin", self._host, *self._flags, *renamed, "-c", str(source), "-o", str(target)])
        return target

    def link(self, name: str, objects: Sequence[Path]) -> Path:
        """One program, which needs nothing of this machine but its C library."""
        target = self._folder / name
        static = ["-cudart", "static", "-Xcompiler", "-static-libstdc++", "-Xlinker", "-s", "-ldl"]
        _run([self._nvcc, "-ccbin", self._host, *map(str, objects), *static, "-o", str(target)])
        return target


def _operator_headers() -> list[Path]:
    try:
        return [fetch("onnxruntime_headers.py")]
    except MissingError:
        return []


def library(part: str, folder: Path, architectures: Sequence[int], ptx: int) -> Path:
    """That of LIBRARIES for those architectures, built as the package builds it; both are built at once.

    Raises:
        MissingError: cmake or a part of the toolchain cannot be had.
        GateError: it does not compile.
    """
    cmake = shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))
    if not cmake:
        raise MissingError("cmake is not in PATH", "cmake 3.24 or later", "Run: pip install cmake ninja")
    options = {
        "SKBUILD_STATE": "wheel",
        "APA_PARTS": ";".join(LIBRARIES),
        "APA_CUDA_ARCHITECTURES": ";".join(map(str, architectures)),
        "APA_CUDA_PTX": ptx,
        "CMAKE_CXX_COMPILER": _host_compiler(),
    }
    defined = [f"-D{name}={value}" for name, value in options.items()]
    said = _run([cmake, "-S", str(ROOT), "-B", str(folder), *defined])
    said += _run([cmake, "--build", str(folder)])
    built = folder / library_path(part)
    if not built.is_file():
        raise MissingError(_reason(said), f"what {built.name} is built with", "See docs/tensorrt-plugin.md.")
    return built


def library_path(part: str) -> Path:
    """Below the folder that it is built in."""
    return Path("plugins", part, LIBRARIES[part])


def _host_compiler() -> str:
    found = shutil.which("c++") or shutil.which("g++")
    if not found:
        raise MissingError("no C++ compiler is in PATH", "g++ or clang++", "Debian: apt install g++")
    return found


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if "apa-deploy:" in line or "is not built" in line]
    return lines[0] if lines else "it was not built"


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise GateError(
            f"{Path(command[0]).name} failed ({done.returncode}): {tail}", "it to compile", "See above."
        )
    return done.stdout + done.stderr
