"""The first GPU through cuda-python's driver interface: memory, copies, streams, graphs. Pointers are integers."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import MissingError
from ..require import require


class DeviceError(MissingError):
    """A call to the driver failed. `call`, `error`: which, and the driver's name for what went wrong."""

    def __init__(self, call: str, error: str) -> None:
        do = "Free its memory, or use fewer contexts." if "OUT_OF_MEMORY" in error else "See nvidia-smi and dmesg."
        super().__init__(f"{call}: {error}", "a GPU that works", do)
        self.call, self.error = call, error


class Device:
    """The primary context, which TensorRT uses too. Threads call `enter` before anything else.

    Raises:
        MissingError: cuda-python is absent.
        DeviceError: there is no driver or no GPU, or a call fails.
    """

    def __init__(self) -> None:
        require("cuda.bindings")
        from cuda.bindings import driver

        self._driver = driver
        self.call(driver.cuInit, 0)
        self._device = self.call(driver.cuDeviceGet, 0)
        self._context = self.call(driver.cuDevicePrimaryCtxRetain, self._device)
        self._pinned: set[int] = set()
        self.enter()

    def enter(self) -> None:
        """Make the context current for this thread."""
        self.call(self._driver.cuCtxSetCurrent, self._context)

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes."""
        return int(self.call(self._driver.cuMemAlloc, max(size, 1)))

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self.call(self._driver.cuMemFree, pointer)

    def allocate_staging(self, size: int) -> np.ndarray:
        """Bytes of main memory to copy from and into: page-locked, so that copies run beside the processor, at the
        bus's full speed. Where the system locks no more pages it is ordinary memory, which is slower."""
        size = max(size, 1)
        with contextlib.suppress(DeviceError):
            pointer = int(self.call(self._driver.cuMemAllocHost, size))
            self._pinned.add(pointer)
            return np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(pointer))
        return np.empty(size, np.uint8)

    def free_staging(self, memory: np.ndarray) -> None:
        """Give it back; no copy may be under way, and no view of it be used again."""
        pointer = memory.ctypes.data
        if pointer in self._pinned:
            self._pinned.remove(pointer)
            self.call(self._driver.cuMemFreeHost, pointer)

    def stream(self) -> int:
        """A stream that does not wait for the default one."""
        return int(self.call(self._driver.cuStreamCreate, self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING))

    def free_stream(self, stream: int) -> None:
        """End a stream."""
        self.call(self._driver.cuStreamDestroy, stream)

    def upload(self, pointer: int, array: np.ndarray, stream: int) -> None:
        """Copy a contiguous array to the device; it may not change before `synchronize`."""
        self.call(self._driver.cuMemcpyHtoDAsync, pointer, array.ctypes.data, array.nbytes, stream)

    def download(self, array: np.ndarray, pointer: int, stream: int) -> None:
        """Copy from the device into a contiguous array; complete after `synchronize`."""
        self.call(self._driver.cuMemcpyDtoHAsync, array.ctypes.data, pointer, array.nbytes, stream)

    def synchronize(self, stream: int) -> None:
        """Wait for all work of a stream."""
        self.call(self._driver.cuStreamSynchronize, stream)

    def capture_graph(self, stream: int, work: Callable[[], bool]) -> Any:
        """A graph of what `work` launches on `stream`, ready to launch; None where `work` says that it failed.

        Only this thread is restricted meanwhile: others go on allocating and copying.
        """
        driver = self._driver
        self.call(
            driver.cuStreamBeginCapture, stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        )
        done = work()
        graph = self.call(driver.cuStreamEndCapture, stream)
        try:
            return self.call(driver.cuGraphInstantiate, graph, 0) if done else None
        finally:
            self.call(driver.cuGraphDestroy, graph)

    def launch(self, graph: Any, stream: int) -> None:
        """Run a graph."""
        self.call(self._driver.cuGraphLaunch, graph, stream)

    def free_graph(self, graph: Any) -> None:
        """Forget a graph."""
        self.call(self._driver.cuGraphExecDestroy, graph)

    def close(self) -> None:
        """Give the context back."""
        self.call(self._driver.cuDevicePrimaryCtxRelease, self._device)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the driver's `function` returns beside its error code."""
        try:
            error, *values = function(*arguments)
        except RuntimeError as problem:  # cuda-python's own, where the driver itself is not found
            raise DeviceError(function.__name__, str(problem)) from problem
        if error:
            raise DeviceError(function.__name__, str(getattr(error, "name", error)))
        return values[0] if values else None
