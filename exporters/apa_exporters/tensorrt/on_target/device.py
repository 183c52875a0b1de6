"""An engine on the first GPU, through the driver's C interface alone: no CUDA runtime is looked for.

TensorRT's wheels bring a CUDA runtime, but to a folder that differs with its version; the driver is where a GPU is.
Every tensor has one address for good, as a `Session` has it, so that a graph of the run can be replayed.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .golden import Arrays
from .machine import open_driver
from .refusal import FAILED, RefusalError

_TYPES: dict[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_NON_BLOCKING, _THREAD_LOCAL = 1, 1  # CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


class EngineRun:
    """One execution context of an engine, with its stream and its memory. `context`: TensorRT's own.

    Raises:
        RefusalError: the driver or TensorRT refuses a call, or an output's shape follows from the data.
    """

    def __init__(self, trt: Any, engine: Any) -> None:
        self._driver = open_driver()
        self._graph, self._stream = ctypes.c_void_p(), ctypes.c_void_p()
        self._memory: dict[str, tuple[ctypes.c_uint64, int]] = {}
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)  # the one that TensorRT uses
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(self._stream), _NON_BLOCKING)
        self.engine, self.context = engine, engine.create_execution_context()
        if self.context is None:
            raise RefusalError("TensorRT makes no execution context", "one", "See what it printed above.", FAILED)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._types = {name: np.dtype(_TYPES[engine.get_tensor_dtype(name).name]) for name in names}
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]

    def infer(self, feed: Arrays) -> Arrays:
        """Every output for `feed`, on the host, in the engine's types; copies included."""
        self.set_shapes({name: feed[name].shape for name in self._inputs})
        for name in self._inputs:
            array = np.ascontiguousarray(feed[name], self._types[name])
            self._call("cuMemcpyHtoDAsync_v2", self._memory[name][0], *_at(array), self._stream)
            self.synchronize()  # before the array goes
        self._enqueue()
        found = {
            name: np.empty(tuple(self.context.get_tensor_shape(name)), self._types[name]) for name in self._outputs
        }
        for name, array in found.items():
            start, size = _at(array)
            self._call("cuMemcpyDtoHAsync_v2", start, self._memory[name][0], size, self._stream)
        self.synchronize()
        return found

    def set_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Of every input; makes room for every tensor. What was recorded holds no longer."""
        self._drop_graph()
        for name, shape in shapes.items():
            if not self.context.set_input_shape(name, shape):
                raise RefusalError(
                    f"{name} of shape {shape}", "a shape within the profile", "See --batch, --shapes.", FAILED
                )
        for name in (*self._inputs, *self._outputs):
            shape = tuple(self.context.get_tensor_shape(name))
            if -1 in shape:
                saw = f"{name}: its shape follows from the data (NonMaxSuppression, NonZero)"
                raise RefusalError(saw, "shapes that follow from the inputs'", "Fix its size in the graph.", FAILED)
            self._reserve(name, math.prod(shape) * self._types[name].itemsize)

    def record(self) -> bool:
        """Record a run of the shapes that are set, for `launch` to replay; whether this engine can be recorded.

        The run before it lets TensorRT finish what it puts off when a shape is set.
        """
        self._enqueue()
        self.synchronize()
        self._drop_graph()
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)
        ran = self.context.execute_async_v3(self._stream.value)
        if self._driver.cuStreamEndCapture(self._stream, ctypes.byref(graph)) or not ran:
            return False
        flags = ctypes.c_ulonglong(0)
        failed = self._driver.cuGraphInstantiateWithFlags(ctypes.byref(self._graph), graph, flags)
        self._driver.cuGraphDestroy(graph)
        if failed:
            self._graph = ctypes.c_void_p()
        return not failed

    def launch(self) -> None:
        """One run, to its end, on what lies in the inputs: the recorded one where there is one."""
        if self._graph:
            self._call("cuGraphLaunch", self._graph, self._stream)
        else:
            self._enqueue()
        self.synchronize()

    def synchronize(self) -> None:
        """Wait for all that was started."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give everything back."""
        self._drop_graph()
        self.context = self.engine = None
        for at, _ in self._memory.values():
            self._driver.cuMemFree_v2(at)
        self._driver.cuStreamDestroy_v2(self._stream)  # the context stays: TensorRT goes on to use it

    def _enqueue(self) -> None:
        if not self.context.execute_async_v3(self._stream.value):
            raise RefusalError("execute_async_v3 failed", "a run", "See what TensorRT printed above.", FAILED)

    def _reserve(self, name: str, size: int) -> None:
        at, reserved = self._memory.get(name, (ctypes.c_uint64(), -1))
        if size <= reserved:
            return
        if reserved >= 0:
            self._call("cuMemFree_v2", self._memory.pop(name)[0])
        self._call("cuMemAlloc_v2", ctypes.byref(at), ctypes.c_size_t(max(size, 1)))
        self._memory[name] = at, size
        if not self.context.set_tensor_address(name, at.value):
            raise RefusalError(f"{name} takes no address", "a tensor on the device", "See above.", FAILED)

    def _drop_graph(self) -> None:
        if self._graph:
            self._driver.cuGraphExecDestroy(self._graph)
            self._graph = ctypes.c_void_p()

    def _call(self, name: str, *arguments: Any) -> None:
        function: Callable[..., int] = getattr(self._driver, name)
        if error := function(*arguments):
            do = "Is its memory in use by others? See nvidia-smi."
            if error == _OUT_OF_MEMORY:
                saw = "the GPU has too little memory for all engines that are timed in turns, or others use it"
                do = "Try fewer (--activation, --precision) or a smaller --batch. See nvidia-smi."
                raise RefusalError(saw, "room for all at the usual size", do, FAILED)
            raise RefusalError(f"{name}: the driver's error {error}", "a GPU that works", do, FAILED)


def _at(array: np.ndarray) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    return ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
