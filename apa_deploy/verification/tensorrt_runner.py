"""An ONNX file in TensorRT, or TensorRT for RTX, through Polygraphy: built here, its insides on show if wanted.

Debug tensors are those that fusion left alone: marking them does not change what is fused. Polygraphy's runner
returns them among the outputs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from polygraphy.backend.base import BaseRunner

from ..errors import MissingError
from ..native import LibraryError, trt_plugin_library
from ..require import require
from ..runtimes.cuda_driver import cuda_version, device_count

_RUNTIME = "*/lib/libcudart.so.[0-9][0-9]"


def tensorrt_runner(
    path: Path, name: str, runner: str, shapes: dict[str, tuple[int, ...]], debug: bool
) -> BaseRunner:
    """A runner that builds the engine when it is entered.

    Args:
        runner: "tensorrt" or "tensorrt-rtx".
        shapes: of the inputs that it will be fed.
        debug: whether unfused values come out as well.

    Raises:
        MissingError: the package, an NVIDIA GPU, or the CUDA runtime that Polygraphy copies with is not there.
    """
    require(runner.replace("-", "_"))
    if not device_count():
        raise MissingError(f"--runner {runner} without an NVIDIA GPU", "a GPU", "Run this on the target machine.")
    open_cuda_runtime()
    network = parse_network(path, runner, debug)
    from polygraphy.backend.trt import CreateConfig, EngineFromNetwork, Profile, TrtRunner

    profile = Profile()
    for tensor, shape in shapes.items():
        profile.add(tensor, shape, shape, shape)
    return TrtRunner(EngineFromNetwork(network, CreateConfig(profiles=[profile], tf32=False)), name=name)


def parse_network(path: Path, runner: str, debug: bool) -> Any:
    """A Polygraphy loader of the network, strongly typed as our graphs are; our plugin takes fused nodes."""
    from polygraphy import config

    config.USE_TENSORRT_RTX = runner == "tensorrt-rtx"  # read when Polygraphy's TensorRT part is imported
    from polygraphy.backend.trt import NetworkFromOnnxPath

    if runner == "tensorrt":
        _load_plugin()
    return NetworkFromOnnxPath(str(path), strongly_typed=True, mark_unfused_tensors_as_debug_tensors=debug)


def open_cuda_runtime() -> None:
    """Have Polygraphy find the CUDA runtime, before anything long: from CUDA 13 on it lies in another folder of the
    wheels than the one that Polygraphy 0.53 knows, and beside one of CUDA 12, which may be older than the driver.

    Raises:
        MissingError: there is none that goes with this driver.
    """
    major = (cuda_version() or (0, 0))[0]
    folders = [Path(found) / "nvidia" for found in sys.path if found]
    found = {path.parent: int(path.name.rpartition(".")[2]) for each in folders for path in each.glob(_RUNTIME)}
    fitting = sorted((folder for folder in found if found[folder] <= major), key=found.__getitem__, reverse=True)
    given = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([*filter(None, given), *map(str, fitting)])
    from polygraphy import cuda
    from polygraphy.exception import PolygraphyException

    try:
        cuda.wrapper()  # reads the variable, once
    except (OSError, PolygraphyException) as error:
        wanted, ending = f"libcudart.so.{major}, with which Polygraphy copies", "-cu12" if major == 12 else ""
        do = f"Run: pip install nvidia-cuda-runtime{ending}"
        raise MissingError(f"no CUDA runtime: {error}", wanted, do) from error


def _load_plugin() -> None:
    """Into TensorRT's registry, where it is built: decomposed graphs need none."""
    import tensorrt

    try:
        tensorrt.get_plugin_registry().load_library(str(trt_plugin_library()))
    except LibraryError:
        return
