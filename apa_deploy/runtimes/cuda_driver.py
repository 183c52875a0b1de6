"""Is there an NVIDIA GPU that a program may use? Asks the driver alone; no CUDA toolkit is needed."""

from __future__ import annotations

import ctypes

_NAMES = ("libcuda.so.1", "nvcuda.dll")


def device_count() -> int:
    """How many GPUs the driver shows; 0 where there is no driver."""
    driver = _driver()
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def missing_gpu() -> tuple[str, str] | None:
    """What is missing, and what adds it; None where there is a GPU."""
    if device_count():
        return None
    if _driver() is None:
        return "the NVIDIA driver", "install r580 or later (r525 for CUDA 12)"
    return "a GPU", "use a machine that has one, or start the container with --gpus all"


def _driver() -> ctypes.CDLL | None:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
