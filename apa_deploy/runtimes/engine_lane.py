"""One execution context of an engine, with its stream, its device memory and its CUDA graph.

Runs of one shape after another are launched as one graph; the second run of a shape records it. A new shape, or
memory that had to grow, ends the graph.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .arguments import as_declared
from .device import Device, DeviceError


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine: numpy's type of it, and its shape with -1 where it is dynamic.

    `largest`: of an input with a dynamic shape, what the engine takes at most.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_input: bool
    largest: tuple[int, ...] = ()


class Lane:
    """Runs one inference at a time."""

    def __init__(self, context: Any, device: Device, tensors: Sequence[Tensor], cuda_graph: bool) -> None:
        self._context, self._device = context, device
        self._inputs = [tensor for tensor in tensors if tensor.is_input]
        self._outputs = [tensor for tensor in tensors if not tensor.is_input]
        self._stream = device.stream()
        self._memory: dict[str, tuple[int, int]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._graph: Any = None
        self._want_graph, self._runs = cuda_graph, 0

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference.

        Raises:
            InputError: a shape outside the engine's profile, or another type.
            DeviceError: the GPU failed.
        """
        self._device.enter()
        arrays = {
            tensor.name: as_declared(tensor.name, inputs[tensor.name], tensor.dtype, tensor.shape)
            for tensor in self._inputs
        }
        self._set_shapes({name: array.shape for name, array in arrays.items()})
        for name, array in arrays.items():
            self._device.upload(self._memory[name][0], array, self._stream)
        self._launch()
        found = {tensor.name: np.empty(self._shapes[tensor.name], tensor.dtype) for tensor in self._outputs}
        for name, array in found.items():
            self._device.download(array, self._memory[name][0], self._stream)
        self._device.synchronize(self._stream)
        return found

    def close(self) -> None:
        """Free everything."""
        self._device.enter()
        self._drop_graph()
        self._context = None
        for pointer, _ in self._memory.values():
            self._device.free(pointer)
        self._device.free_stream(self._stream)

    def _set_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if all(self._shapes.get(name) == shape for name, shape in shapes.items()):
            self._runs += 1
            return
        self._drop_graph()
        self._shapes, self._runs = {}, 0  # nothing holds until all of it is set
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise InputError(
                    f"{name} of shape {shape}", "a shape within the engine's profile", "Export another."
                )
        known = shapes | {
            tensor.name: tuple(self._context.get_tensor_shape(tensor.name)) for tensor in self._outputs
        }
        for tensor in (*self._inputs, *self._outputs):
            self._reserve(tensor, known[tensor.name])
        self._shapes = known

    def _reserve(self, tensor: Tensor, shape: tuple[int, ...]) -> None:
        """Memory for a tensor, at the address that the context knows."""
        size = math.prod(shape) * tensor.dtype.itemsize
        pointer, reserved = self._memory.get(tensor.name, (0, -1))
        if size <= reserved:
            return
        if reserved >= 0:
            self._device.free(self._memory.pop(tensor.name)[0])
        pointer = self._device.allocate(size)
        self._memory[tensor.name] = pointer, size
        if not self._context.set_tensor_address(tensor.name, pointer):
            raise InputError(f"{tensor.name} at an address of its own", "a tensor on the device", "Export again.")

    def _launch(self) -> None:
        """The first run of a shape goes as it is: it finishes what TensorRT put off when the shape was set."""
        if self._want_graph and self._runs == 1:
            self._record()
        if self._graph is not None:
            self._device.launch(self._graph, self._stream)
        elif not self._context.execute_async_v3(self._stream):
            raise DeviceError("execute_async_v3", "TensorRT could not run the engine")

    def _record(self) -> None:
        """An engine that cannot be captured (one that waits inside) runs without a graph."""
        with contextlib.suppress(DeviceError):
            self._graph = self._device.captured(self._stream, lambda: self._context.execute_async_v3(self._stream))
        self._want_graph = self._graph is not None

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            self._device.free_graph(graph)
