"""Whether ONNX Runtime's providers for NVIDIA GPUs can start here.

Where one cannot, ONNX Runtime itself says so in its log alone, and runs the model on the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..doctor.fat_binary import gpu_code
from ..errors import MissingError
from .cuda_driver import lacking_driver, missing_gpu
from .providers import CUDA, TENSORRT

_LIBRARIES = {CUDA: "libonnxruntime_providers_cuda.so", TENSORRT: "libonnxruntime_providers_tensorrt.so"}
_DO = {
    CUDA: "Run: pip install 'onnxruntime-gpu[cuda,cudnn]' (1.21 and later)",
    TENSORRT: "Run: pip install 'onnxruntime-gpu[cuda,cudnn]', and install the TensorRT that it was built with",
}


def require_gpu(ort: Any, names: Sequence[str]) -> None:
    """Load CUDA and cuDNN from NVIDIA's packages, which ONNX Runtime does not by itself.

    Raises:
        MissingError: there is no GPU, no driver or too old a one, or a library that one of these providers needs is
            not there.
    """
    missing = missing_gpu()
    if missing:
        saw = f"{names[0]} without {missing[0]}"
        raise MissingError(
            saw, "an NVIDIA GPU and its driver", f"{missing[1][0].upper()}{missing[1][1:]}, or choose the CPU."
        )
    package = Path(ort.__file__).parent
    if lacking := lacking_driver(built_with(package)):
        seen, wanted, do = lacking
        other = "an onnxruntime-gpu that is built with the driver's CUDA (1.23.2: CUDA 12)"
        wanted = f"{wanted}, with which onnxruntime-gpu {ort.__version__} is built"
        raise MissingError(f"{names[0]} on {seen}", wanted, f"{do}, or {other}.")
    if hasattr(ort, "preload_dlls"):  # 1.21 and later
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    for name in names:
        library = package / "capi" / _LIBRARIES[name]
        try:
            ctypes.CDLL(str(library), mode=os.RTLD_LAZY)
        except OSError as error:
            if "cannot open shared object" in str(error):  # else it is for ONNX Runtime itself to load
                raise MissingError(
                    f"{name} cannot start: {error}", "the libraries that it needs", _DO[name]
                ) from error


def built_with(package: Path) -> tuple[int, int] | None:
    """The CUDA of the onnxruntime-gpu in the folder `package`; None where it does not say it, as before 1.21."""
    try:
        text = (package / "capi/build_and_package_info.py").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"^cuda_version = '(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(version[1]), int(version[2])) if version else None


def explain_old_driver(library: Path) -> tuple[str, str, str] | None:
    """What is seen, wanted and to be done where the driver is too old for a library of ours; else None."""
    lacking = lacking_driver(gpu_code(library).cuda)
    return lacking and (f"{library.name} on {lacking[0]}", *lacking[1:])


def require_started(session: Any, names: Sequence[str]) -> None:
    """Raise `MissingError` where ONNX Runtime made the session without one of these providers."""
    for name in names:
        if name not in session.get_providers():
            saw = f"{name} did not start on this machine"
            raise MissingError(saw, "a GPU and a driver that this onnxruntime-gpu supports", _DO[name])
