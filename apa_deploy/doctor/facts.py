"""This machine, as the doctor sees it: gathered here, judged elsewhere. Nothing heavy is imported."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ..native import LibraryError, ort_library, trt_plugin_library
from ..runtimes.cuda_driver import Gpu, cuda_version, gpus
from ..runtimes.ort_gpu import built_with
from .fat_binary import GpuCode, gpu_code

_PACKAGES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "polygraphy",
    "onnx-graphsurgeon",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "tensorrt-lean-cu13",
    "cuda-python",
)
_PROGRAMS = ("c++", "nvcc", "trtexec")


@dataclass(frozen=True)
class MachineFacts:
    """`packages`: distribution -> version, installed ones only; `driver`: the newest CUDA that it serves.

    `plugin_code`, `ort_cuda_code`: what GPUs the TensorRT plugin, and the operators for ONNX Runtime on CUDA, are
    compiled for; None where they are not built. `onnxruntime_cuda`: the CUDA of onnxruntime-gpu.
    """

    python: str = ""
    system: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    driver: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    ort_library: Path | None = None
    trt_plugin: Path | None = None
    plugin_code: GpuCode | None = None
    ort_cuda_library: Path | None = None
    ort_cuda_code: GpuCode | None = None
    onnxruntime_cuda: tuple[int, int] | None = None

    def version_of(self, *distributions: str) -> str | None:
        """The version of the first of these that is installed."""
        return next((self.packages[name] for name in distributions if name in self.packages), None)


def gather_facts() -> MachineFacts:
    """The facts of this machine, now."""
    package = find_spec("onnxruntime")
    plugin, on_cuda = _find_library(trt_plugin_library), _find_library(partial(ort_library, "cuda"))
    return MachineFacts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        programs={name: found for name in _PROGRAMS if (found := shutil.which(name))},
        driver=cuda_version(),
        gpus=gpus(),
        ort_library=_find_library(ort_library),
        trt_plugin=plugin,
        plugin_code=gpu_code(plugin) if plugin else None,
        ort_cuda_library=on_cuda,
        ort_cuda_code=gpu_code(on_cuda) if on_cuda else None,
        onnxruntime_cuda=built_with(Path(package.origin).parent) if package and package.origin else None,
    )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _find_library(library: Callable[[], Path]) -> Path | None:
    try:
        return library()
    except LibraryError:
        return None
