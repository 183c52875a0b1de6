"""Where the built native libraries lie: `apa_deploy/lib/`, filled when apa-deploy is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .errors import InputError, MissingError
from .runtimes.cuda_driver import cuda_version

FOLDER = Path(__file__).parent / "lib"
_SOURCES = FOLDER / "src"
_ORT, _ORT_CUDA = "libapa_ort.so", "libapa_ort_cuda.so"
_TENSORRT, _AUTOLOAD = "libapa_trt.so", "libapa_trt_autoload.so"
_TENSORRT_CUDA_12 = "libapa_trt_cu12.so"  # where a user has built it: plugins/tensorrt/build_cuda12.sh
_AOT = "apa_aot.ptx"
LIBRARIES = tuple(FOLDER / name for name in (_ORT, _ORT_CUDA, _TENSORRT, _AUTOLOAD))


class LibraryError(MissingError):
    """A native library is not built. `path` is where it would be."""

    def __init__(self, path: Path, wanted: str, do: str) -> None:
        super().__init__(f"{path} is not there", wanted, do)
        self.path = path


def ort_library(provider: Literal["cpu", "cuda"] = "cpu") -> Path:
    """The custom-operator library for one of ONNX Runtime's providers.

    For a plain session: `SessionOptions.register_custom_ops_library(str(ort_library()))`. A session has one of
    them: that for "cuda" where CUDAExecutionProvider runs the model, else that for "cpu".

    Raises:
        LibraryError: it was not built; the message names the command that builds it.
        InputError: there is no library for such a provider.
    """
    if provider == "cuda":
        return _present(_ORT_CUDA, "the fused operators for ONNX Runtime on CUDA", "a C++17 compiler and nvcc")
    if provider != "cpu":
        raise InputError(f"provider={provider!r}", '"cpu" or "cuda"', "Name one of these.")
    return _present(_ORT, "the fused operators for ONNX Runtime", "a C++17 compiler")


def trt_plugin_library() -> Path:
    """The TensorRT plugin library, for `trtexec --dynamicPlugins=...` or `IPluginRegistry.load_library`.

    The one for CUDA 12 where it was built and the driver serves no later CUDA.

    Raises:
        LibraryError: it was not built; the message names the command that builds it.
    """
    for_cuda_12, driver = FOLDER / _TENSORRT_CUDA_12, cuda_version()
    if driver and driver < (13, 0) and for_cuda_12.is_file():
        return for_cuda_12
    return _present(_TENSORRT, "the TensorRT plugin", "a C++17 compiler and nvcc")


def trt_autoload_library() -> Path:
    """Loads the TensorRT plugin library, which lies beside it, as it is opened: for `trtexec --staticPlugins=...`,
    `polygraphy --plugins` and Triton's `--backend-config=tensorrt,plugins=`, which open a library and do no more.

    Raises:
        LibraryError: it was not built; the message names the command that builds it.
    """
    return _present(_AUTOLOAD, "the loader of the TensorRT plugin", "a C++17 compiler and nvcc")


def aot_kernels() -> Path:
    """The PTX of the kernels for TensorRT's ahead-of-time plugins (`--format trt --activation aot`).

    Raises:
        LibraryError: it was not built; the message names the command that builds it.
    """
    return _present(_AOT, "the kernels for ahead-of-time plugins", "a C++17 compiler and nvcc")


def trt_plugin_sources() -> dict[str, Path]:
    """The folders that the TensorRT plugin is built from, by name, and "fetch", which finds or fetches TensorRT's
    headers: for a platform that this build does not serve.

    Raises:
        LibraryError: they are not there.
    """
    for root in (_SOURCES, Path(__file__).parents[1] / "plugins"):
        folders = {name: root / name for name in ("tensorrt", "include", "fetch")}
        if all(path.is_dir() for path in folders.values()):
            return folders
    raise LibraryError(_SOURCES, "the sources of the TensorRT plugin", "Install apa-deploy again.")


def _present(name: str, wanted: str, needs: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        do = f"Install {needs} and, in a checkout of apa-deploy, run: pip install --no-deps ."
        raise LibraryError(path, wanted, do)
    return path
