"""apa-deploy: ship neural networks that use the Adaptive Parametric Activation."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

# Name -> module below this package. Imported on first use, because most of them pull in heavy packages.
_LAZY = {
    "Network": "network",
    "load": "loading.load",
    "replace_activations": "replace",
    "Session": "runtimes.session",
    "ort_library": "native",
    "trt_autoload_library": "native",
    "trt_plugin_library": "native",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
