"""Is there an NVIDIA GPU that a program may use? Asks the driver alone; no CUDA toolkit is needed."""

from __future__ import annotations

import ctypes

_NAMES = ("libcuda.so.1", "nvcuda.dll")


def device_count() -> int:
    """How many GPUs the driver shows; 0 where there is no driver."""
    for name in _NAMES:
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0
