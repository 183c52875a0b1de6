"""Compile the operators for ONNX Runtime on CUDA, their kernels for the CPU: no GPU is needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import ort_building
import pytest
import trt_building
from trt_building import ROOT, TENSORRT, TESTS, fetched

from apa_deploy import native
from apa_deploy.native import LibraryError

CUDA, ORT, INCLUDE = ROOT / "plugins/onnxruntime_cuda", ort_building.ORT, trt_building.INCLUDE
OPERATORS = [
    *(CUDA / f"{name}.cc" for name in ("entry", "operators")),
    *(ORT / f"{name}.cc" for name in ("attributes", "binding", "node", "registration")),
    TENSORRT / "device_memory.cc",
]
KERNELS = [
    TESTS / "trt_kernels_cpu.cc",
    TESTS / "cuda_cpu_runtime.cc",
    *(TENSORRT / f"{n}.cc" for n in ("activation", "layout")),
]


def objects(folder: Path, sources: list[Path], *flags: str, plugins: Path = ROOT / "plugins") -> list[Path]:
    """The sources compiled into `folder`; `plugins` is where they, or planted copies of them, lie."""
    headers = fetched("onnxruntime_headers.py")
    last = [
        part for f in (plugins / "onnxruntime", headers) for part in ("-isystem", str(f))
    ]  # has a kernels.h too
    flags = ("-fPIC", *last, *flags)
    made = []
    for source in sources:
        planted = plugins / source.relative_to(ROOT / "plugins")
        target = folder / f"{source.parent.name}_{source.name}.o"
        text = planted if planted.exists() else source
        made.append(
            trt_building.compiled(text, target, *flags, product=plugins / "tensorrt", maths=plugins / "include")
        )
    return made


def cpu_library(folder: Path, kernels: list[Path]) -> Path:
    """The library as ONNX Runtime loads it, but for the CPU provider: its memory can be read on this machine."""
    (made := folder / "cpu").mkdir()
    operators = objects(made, OPERATORS, '-DAPA_PROVIDERS="CPUExecutionProvider"')
    return trt_building.linked([*operators, *kernels], folder / "cpu.so", "-shared")


@cache
def library() -> Path:
    """libapa_ort_cuda.so: that of the installed package, or of this checkout, where it is brought up to date."""
    sources = [ROOT / "CMakeLists.txt", ROOT / "plugins/nvcc.cmake"]
    for folder in (CUDA, ORT, TENSORRT, INCLUDE):
        sources += folder.rglob("*.*")
    trt_building.build_part("libapa_ort_cuda.so", sources)
    try:
        return native.ort_library("cuda")
    except LibraryError as error:
        pytest.skip(str(error))
