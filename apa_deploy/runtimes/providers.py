"""Which ONNX Runtime providers a session gets, and which library of ours belongs to them: pure functions.

A session has one of our libraries. That for the CPU must not be registered beside a GPU provider: its operators run
on the CPU only, so every activation would be bracketed by two copies. With CUDA's provider goes that for CUDA, also
behind TensorRT's: what TensorRT leaves out falls to CUDA. TensorRT's takes the plugin, by an option of its own.
Beside other GPU providers the model's own function bodies run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError, MissingError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_GPU = (
    TENSORRT,
    "NvTensorRTRTXExecutionProvider",
    CUDA,
    "ROCMExecutionProvider",
    "MIGraphXExecutionProvider",
)

# ONNX Runtime's packages by the provider that they carry; each replaces the CPU package.
_PACKAGES = {
    CUDA: "onnxruntime-gpu",
    TENSORRT: "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
}

_PLUGINS = "trt_extra_plugin_lib_paths"
Wanted = str | tuple[str, dict[str, Any]]

# What apa-bench and apa-verify call a session of ONNX Runtime -> its providers.
SESSIONS: dict[str, tuple[str, ...] | None] = {
    "onnxruntime": None,
    "onnxruntime-cuda": (CUDA, CPU),
    "onnxruntime-tensorrt": (TENSORRT, CUDA, CPU),
}


@dataclass(frozen=True)
class Choice:
    """`providers`: (name, options) in order of preference. `library`: which of ours to register, None: neither.

    `profiled`: whether TensorRT's options say a range of shapes that nobody but us asked for.
    """

    providers: tuple[tuple[str, dict[str, str]], ...]
    library: Literal["cpu", "cuda"] | None
    profiled: bool = False

    @property
    def needs_nvidia(self) -> tuple[str, ...]:
        """The providers that an NVIDIA GPU runs."""
        return tuple(name for name, _ in self.providers if name in (TENSORRT, CUDA))


def choose_providers(
    wanted: Sequence[Wanted] | None, available: Sequence[str], trt_plugin: Callable[[], Path | None] | None = None
) -> Choice:
    """The providers of a session.

    Args:
        wanted: provider names, or (name, options) pairs, in order; None: the CPU alone.
        available: what the installed ONNX Runtime offers (`onnxruntime.get_available_providers()`).
        trt_plugin: finds our TensorRT plugin library where it is built, which TensorRT's provider is told to load;
            None: nobody looks.

    Raises:
        MissingError: a wanted provider is in another package of ONNX Runtime.
        InputError: a wanted provider is not available by any package that we know, or `wanted` is empty.
    """
    pairs = [_pair(provider) for provider in ((CPU,) if wanted is None else wanted)]
    _check(pairs, available)
    providers = tuple((name, _with_plugin(name, options, trt_plugin)) for name, options in pairs)
    names = {name for name, _ in providers}
    return Choice(providers, "cuda" if CUDA in names else None if names & set(_GPU) else "cpu")


def _pair(provider: Wanted) -> tuple[str, dict[str, str]]:
    name, options = (provider, {}) if isinstance(provider, str) else provider
    return name, {key: str(value) for key, value in options.items()}


def _check(pairs: list[tuple[str, dict[str, str]]], available: Sequence[str]) -> None:
    missing = [name for name, _ in pairs if name not in available]
    if missing and missing[0] in _PACKAGES:
        package = _PACKAGES[missing[0]]
        raise MissingError(
            f"provider {missing[0]}, which the installed ONNX Runtime has not",
            f"some of {', '.join(available)}, or the package {package}",
            f"Run: pip uninstall onnxruntime && pip install {package}",
        )
    if missing or not pairs:
        raise InputError(
            f"provider {', '.join(missing)}" if missing else "an empty list of providers",
            f"some of {', '.join(available)}",
            "Name one of these, or install the ONNX Runtime package that carries it.",
        )


def _with_plugin(name: str, options: dict[str, str], plugin: Callable[[], Path | None] | None) -> dict[str, str]:
    if name != TENSORRT or _PLUGINS in options or plugin is None or (library := plugin()) is None:
        return options
    return {_PLUGINS: str(library), **options}
