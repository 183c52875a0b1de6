"""TensorRT engines, and those of TensorRT for RTX: trusted, deserialized, run on the first GPU."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import InputError, MissingError
from ..native import LibraryError, trt_plugin_library
from ..require import require
from ..tensors.signature import ANY, Signature, TensorSpec
from .cuda_driver import missing_gpu
from .device import Device
from .engine_instance import EngineInstance
from .engine_trust import EngineFile, Trust, read_trusted_engine

_TYPES: dict[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


class EngineLoadError(InputError):
    """TensorRT does not take an engine. `reasons`: its own messages."""

    def __init__(self, path: Path, version: str, reasons: list[str]) -> None:
        said = "; ".join(reasons) or "it gives no reason"
        wanted = f"an engine for TensorRT {version} on this GPU"
        super().__init__(
            f"{path.name}: {said}", wanted, f"Build it here. What it needs says: apa-doctor {path.name}"
        )
        self.reasons = reasons


class TensorRTRunner:
    """A `Runner` with `contexts` execution contexts, so many calls of `run` at once; further ones wait.

    Raises:
        UntrustedEngineError: the engine's hash is not known; nothing was loaded.
        MissingError: tensorrt, cuda-python, the driver or a GPU is missing.
        EngineLoadError: TensorRT does not take the engine.
    """

    prepared: Path | None = None  # an engine has its layouts already

    def __init__(self, path: Path, trust: Trust, *, contexts: int = 1, cuda_graph: bool = True) -> None:
        if contexts < 1:
            raise InputError(f"contexts={contexts}", "1 or more", "Leave it out for one.")
        file = read_trusted_engine(path, trust)
        trt = _package(file)
        _check_gpu()
        self._device = Device()
        self._logger = _logger(trt)
        self._runtime, self._engine = _deserialize(trt, path, file, self._logger)
        self.signature = _read_signature(trt, self._engine)
        self._instances: queue.LifoQueue[EngineInstance] = queue.LifoQueue()
        for _ in range(contexts):
            self._instances.put(EngineInstance(self._context(path), self._device, self.signature, cuda_graph))
        self._count = contexts
        self.input_names = tuple(tensor.name for tensor in self.signature.inputs)
        self.output_names = tuple(tensor.name for tensor in self.signature.outputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The instance used last is the warmest."""
        instance = self._instances.get()
        try:
            return instance.run(inputs)
        finally:
            self._instances.put(instance)

    def close(self) -> None:
        """Waits for what still runs."""
        for _ in range(self._count):
            self._instances.get().close()
        self._engine = self._runtime = None
        self._device.close()

    def _context(self, path: Path) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            saw = f"{path.name}: no execution context: {'; '.join(self._logger.errors)}"
            raise InputError(
                saw, "an engine with its weights", "If they were stripped, refit it, or export it whole."
            )
        return context


def _package(file: EngineFile) -> Any:
    """The package that made the engine."""
    return require("tensorrt_rtx" if file.is_rtx else "tensorrt")


def _check_gpu() -> None:
    if lacks := missing_gpu():
        raise MissingError(
            f"this machine lacks {lacks[0]}", "a GPU to run the engine on", f"To add it, {lacks[1]}."
        )


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):
        """Keeps errors: they become the message of the exception."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    return Logger()


def _deserialize(trt: Any, path: Path, file: EngineFile, logger: Any) -> tuple[Any, Any]:
    """Runtime and engine; the plugin is loaded where the passport wants it, or where it does not go without."""
    runtime = trt.Runtime(logger)
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = (
            True  # an embedded plugin, a version-compatible engine: trusted as a whole
        )
    if file.needs_plugin:
        _load_plugin(trt)
    engine = runtime.deserialize_cuda_engine(file.content)
    if engine is None and file.needs_plugin is None and _load_plugin(trt, optional=True):
        logger.errors.clear()
        engine = runtime.deserialize_cuda_engine(file.content)
    if engine is None:
        raise EngineLoadError(path, trt.__version__, logger.errors)
    return runtime, engine


def _load_plugin(trt: Any, *, optional: bool = False) -> bool:
    """Register our plugin, once a process; whether it is there."""
    registry = trt.get_plugin_registry()
    if all(registry.get_creator(name, "1", "apa") for name in ("APA", "AGLU", "APACodes", "AGLUCodes")):
        return True
    try:
        library = trt_plugin_library()
    except LibraryError:
        if optional:
            return False
        raise
    return registry.load_library(str(library)) is not None


def _read_signature(trt: Any, engine: Any) -> Signature:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    return Signature(
        tuple(_read_spec(engine, name, is_input=True) for name in inputs),
        tuple(_read_spec(engine, name, is_input=False) for name in outputs),
    )


def _read_spec(engine: Any, name: str, *, is_input: bool) -> TensorSpec:
    kind = engine.get_tensor_dtype(name)
    if kind.name not in _TYPES:
        raise InputError(f"{name} of type {kind.name}", f"one of {', '.join(_TYPES)}", "Cast it in the network.")
    shape = tuple(engine.get_tensor_shape(name))
    largest: tuple[int, ...] = ()
    if is_input and ANY in shape:
        least, _, largest = (tuple(dims) for dims in engine.get_tensor_profile_shape(name, 0))
        shape = tuple(low if low == high else ANY for low, high in zip(least, largest, strict=True))
    return TensorSpec.of_sizes(name, np.dtype(_TYPES[kind.name]).name, shape, largest)
