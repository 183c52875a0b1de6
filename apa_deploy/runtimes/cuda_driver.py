"""The NVIDIA driver and its GPUs. Asks the driver alone; no CUDA toolkit is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_NAMES = ("libcuda.so.1", "nvcuda.dll")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_LENGTH = 256
# By the major version of a CUDA that a library is built with; within one major every such driver runs it.
OLDEST_DRIVER = {11: "r450", 12: "r525", 13: "r580"}


@dataclass(frozen=True)
class Gpu:
    """A GPU. `capability`: such as "8.9"."""

    name: str
    capability: str


def device_count() -> int:
    """How many GPUs the driver shows; 0 where there is no driver."""
    driver, count = _driver(), ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that the driver shows."""
    driver = _driver()
    return tuple(_gpu(driver, number) for number in range(device_count()))


def missing_gpu() -> tuple[str, str] | None:
    """What is missing, and what adds it; None where there is a GPU."""
    if device_count():
        return None
    if _driver() is None:
        return "the NVIDIA driver", "install r580 or later (r525 for CUDA 12)"
    return "a GPU", "use a machine that has one, or start the container with --gpus all"


def cuda_version() -> tuple[int, int] | None:
    """The newest CUDA that the driver serves, e.g. (13, 0); None where there is no driver."""
    driver, version = _driver(), ctypes.c_int(0)
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value // 1000, version.value % 1000 // 10


def lacking_driver(cuda: tuple[int, int] | None) -> tuple[str, str, str] | None:
    """What is seen, wanted and to be done where the driver is too old for what is built with `cuda`; else None.

    None too where there is no driver, or where nobody knows the CUDA.
    """
    served = cuda_version()
    if served is None or cuda is None or served[0] >= cuda[0]:
        return None
    oldest = OLDEST_DRIVER.get(cuda[0], "a newer one")
    seen = f"a driver for CUDA {served[0]}.{served[1]} and older"
    return seen, f"{oldest} or later, for CUDA {cuda[0]}", f"Install the NVIDIA driver {oldest} or later"


def _driver() -> ctypes.CDLL | None:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _gpu(driver: ctypes.CDLL | None, number: int) -> Gpu:
    assert driver is not None  # it counted its devices
    handle, name = ctypes.c_int(0), ctypes.create_string_buffer(_NAME_LENGTH)
    driver.cuDeviceGet(ctypes.byref(handle), number)
    driver.cuDeviceGetName(name, _NAME_LENGTH, handle)
    parts = [ctypes.c_int(0), ctypes.c_int(0)]
    for part, attribute in zip(parts, (_MAJOR, _MINOR), strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, handle)
    return Gpu(name.value.decode(errors="replace"), f"{parts[0].value}.{parts[1].value}")
