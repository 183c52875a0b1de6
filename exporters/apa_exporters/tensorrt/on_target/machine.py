"""What this machine has: packages, the driver, a GPU. Asks the driver by its C interface; no toolkit is needed."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from .recipe import FP8
from .refusal import MISSING, RefusalError

PACKAGES = ("tensorrt", "polygraphy", "numpy", "onnx")
LEAST_TENSORRT = (10, 7)  # the first whose parser prefers a plugin to a function of the same name
DRIVERS = ("libcuda.so.1", "nvcuda.dll")
ADD = "pip install 'tensorrt>=10.7' polygraphy numpy onnx"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_CUDA_13 = 13000
_FP8_FROM = (8, 9)
_RELEASE = re.compile(rb"Cuda compilation tools, release (\d+)\.")  # in everything that nvcc made


@dataclass(frozen=True)
class Gpu:
    """The first GPU: name, compute capability such as "8.9", and the newest CUDA of the driver, such as 13000."""

    name: str
    capability: str
    cuda: int


def gpu() -> Gpu | None:
    """The first GPU that the driver shows, or None."""
    driver = open_driver()
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    name, cuda = ctypes.create_string_buffer(256), ctypes.c_int(0)
    driver.cuDeviceGetName(name, len(name), 0)
    driver.cuDriverGetVersion(ctypes.byref(cuda))
    capability = ".".join(str(_attribute(driver, which)) for which in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(), capability, cuda.value)


def missing(packages: Sequence[str] = PACKAGES, add: str = ADD) -> list[tuple[str, str]]:
    """What is not here, each with what to do about it; `add`: the command that installs the packages."""
    lacks = [(f"the package {name}", f"run: {add}") for name in packages if importlib.util.find_spec(name) is None]
    if not lacks and (found := _tensorrt_problem()):
        lacks.append((f"tensorrt 10.7 or later ({found})", f"run: {add}"))
    if open_driver() is None:
        lacks.append(("the NVIDIA driver", "install it (r580 or later for CUDA 13, r525 for CUDA 12)"))
    elif (device := gpu()) is None:
        lacks.append(("a GPU", "use a machine that has one, or give this one to the container: --gpus all"))
    elif device.cuda < _CUDA_13 and _needs_cuda_13():
        lacks.append((f"a driver for CUDA 13 (this one: {_cuda(device)})", "install driver r580 or later"))
    return lacks


def check(packages: Sequence[str] = PACKAGES, add: str = ADD) -> Gpu:
    """The GPU; raise a `RefusalError` that names everything that is missing."""
    if lacks := missing(packages, add):
        saw = f"this machine lacks {', '.join(what for what, _ in lacks)}"
        do = "; ".join(dict.fromkeys(how for _, how in lacks))
        raise RefusalError(saw, "TensorRT and a GPU", f"To add: {do}.", MISSING)
    found = gpu()
    assert found is not None  # `missing` would have named it
    return found


def check_precision(precision: str, found: Gpu) -> None:
    """Raise a `RefusalError` where the GPU has no arithmetic in this precision."""
    if precision == FP8 and tuple(map(int, found.capability.split("."))) < _FP8_FROM:
        saw = f"{found.name} of compute capability {found.capability} for fp8"
        raise RefusalError(saw, "8.9 or later", "Use --precision int8 or fp16 on it.", MISSING)


def check_plugin(library: Path, found: Gpu) -> None:
    """Raise a `RefusalError` where the plugin is of a newer CUDA than the driver serves: none of its kernels would
    start, and an engine that holds it could not even be timed."""
    built = _RELEASE.search(library.read_bytes()) if library.is_file() else None
    if built and int(built[1]) > found.cuda // 1000:
        saw = f"{library.name} is built with CUDA {int(built[1])}, and the driver serves {_cuda(found)}"
        do = "Install driver r580 or later; or, with nvcc of the driver's CUDA: sh plugin/build_plugin.sh my.so, "
        raise RefusalError(saw, "a plugin that this driver runs", f"{do}and build.py --plugin my.so.", MISSING)


def facts(found: Gpu) -> dict[str, Any]:
    """What the record keeps of the machine."""
    return asdict(found) | {"versions": {name: _version(name) for name in PACKAGES}}


def open_driver() -> Any:
    """The NVIDIA driver's library, or None."""
    for name in DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _attribute(driver: Any, which: int) -> int:
    value = ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(value), which, 0)
    return value.value


def _tensorrt_problem() -> str:
    """Why the installed package does not do; "" where it does."""
    try:
        version = importlib.import_module("tensorrt").__version__
    except (ImportError, OSError) as error:  # the package without its libraries
        return f"the one here: {error}"
    found = tuple(int(part) for part in version.split(".")[:2])
    return "" if found >= LEAST_TENSORRT else f"{version} is here"


def _needs_cuda_13() -> bool:
    names = {(found.metadata["Name"] or "").lower().replace("_", "-") for found in metadata.distributions()}
    return "tensorrt-cu13" in names


def _cuda(found: Gpu) -> str:
    return f"CUDA {found.cuda // 1000}.{found.cuda % 1000 // 10}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))
