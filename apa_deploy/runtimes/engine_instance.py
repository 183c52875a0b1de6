"""One execution context of an engine, with its stream, its memory on both sides and its CUDA graphs.

The second run of a shape records a graph, and further ones launch it, whatever was run between. Graphs hold
addresses, so memory that has to grow ends them all; of many shapes the least recently used graph goes.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InputError
from ..tensors.signature import Signature, TensorSpec
from .arguments import as_declared
from .device import Device, DeviceError

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
_MOST_GRAPHS = 16  # of one instance: a graph of a large network takes a few MB
_MOST_SEEN = 256  # shapes that are remembered without a graph


class EngineInstance:
    """Runs one inference at a time."""

    def __init__(self, context: Any, device: Device, signature: Signature, cuda_graph: bool) -> None:
        self._context, self._device = context, device
        self._inputs, self._outputs = signature.inputs, signature.outputs
        self._stream = device.stream()
        self._memory: dict[str, tuple[int, int]] = {}  # on the device: address and bytes
        self._staging: dict[str, np.ndarray] = {}  # of as many bytes, for copies
        self._context_shapes: Shapes | None = None  # what the context was told last; a graph needs none
        self._known: OrderedDict[Shapes, dict[str, tuple[int, ...]]] = OrderedDict()  # of all tensors, by inputs'
        self._graphs: OrderedDict[Shapes, Any] = OrderedDict()
        self._want_graph = cuda_graph

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference.

        Raises:
            InputError: a shape outside the engine's profile, or another type.
            DeviceError: the GPU failed.
        """
        self._device.enter()
        arrays = {
            tensor.name: as_declared(tensor.name, inputs[tensor.name], tensor.numpy_dtype, tensor.declared)
            for tensor in self._inputs
        }
        shapes = tuple((name, array.shape) for name, array in arrays.items())
        if shapes not in self._graphs:
            seen = shapes in self._known
            self._set_shapes(shapes)
        self._known.move_to_end(shapes)
        for name, array in arrays.items():
            staged = self._staged(name, array.shape, array.dtype)
            np.copyto(staged, array)
            self._device.upload(self._memory[name][0], staged, self._stream)
        if shapes in self._graphs:
            self._graphs.move_to_end(shapes)
            self._device.launch(self._graphs[shapes], self._stream)
        elif not self._context.execute_async_v3(self._stream):
            self._device.synchronize(self._stream)  # what is copied now must not be overwritten by the next run
            raise DeviceError("execute_async_v3", "TensorRT could not run the engine")
        known = self._known[shapes]
        found = {t.name: self._staged(t.name, known[t.name], t.numpy_dtype) for t in self._outputs}
        for name, array in found.items():
            self._device.download(array, self._memory[name][0], self._stream)
        if shapes not in self._graphs and seen and self._want_graph:
            self._record(shapes)
        self._device.synchronize(self._stream)
        return {name: array.copy() for name, array in found.items()}

    def close(self) -> None:
        """Free everything."""
        self._device.enter()
        self._drop_graphs()
        self._context = None
        for name in list(self._memory):
            self._free(name)
        self._device.free_stream(self._stream)

    def _set_shapes(self, shapes: Shapes) -> None:
        """Tell the context; make room for every tensor of this shape."""
        if self._context_shapes == shapes:
            return
        self._context_shapes = None  # nothing holds until all of it is set
        for name, shape in shapes:
            if not self._context.set_input_shape(name, shape):
                least, _, largest = map(tuple, self._context.engine.get_tensor_profile_shape(name, 0))
                wanted = f"a shape within the engine's profile, {least} to {largest}"
                raise InputError(f"{name} of shape {shape}", wanted, "Export another.")
        known = dict(shapes) | {t.name: tuple(self._context.get_tensor_shape(t.name)) for t in self._outputs}
        if unknown := [name for name, shape in known.items() if -1 in shape]:
            saw = f"{', '.join(unknown)}: its shape follows from the data (NonMaxSuppression, NonZero)"
            raise InputError(saw, "outputs whose shapes follow from the inputs'", "Export with fixed output sizes.")
        for tensor in (*self._inputs, *self._outputs):
            self._reserve(tensor, known[tensor.name])
        self._known[shapes] = known
        if len(self._known) > _MOST_SEEN:
            oldest, _ = self._known.popitem(last=False)
            if graph := self._graphs.pop(oldest, None):
                self._device.free_graph(graph)
        self._context_shapes = shapes

    def _reserve(self, tensor: TensorSpec, shape: tuple[int, ...]) -> None:
        """Memory for a tensor, at the address that the context knows."""
        size = math.prod(shape) * tensor.numpy_dtype.itemsize
        pointer, reserved = self._memory.get(tensor.name, (0, -1))
        if size <= reserved:
            return
        self._drop_graphs()
        if reserved >= 0:
            self._free(tensor.name)
        pointer = self._device.allocate(size)
        self._memory[tensor.name] = pointer, size
        self._staging[tensor.name] = self._device.allocate_staging(size)
        if not self._context.set_tensor_address(tensor.name, pointer):
            raise InputError(f"{tensor.name} at an address of its own", "a tensor on the device", "Export again.")

    def _staged(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A tensor's staging memory, as an array."""
        size = math.prod(shape) * dtype.itemsize
        return self._staging[name][:size].view(dtype).reshape(shape)

    def _free(self, name: str) -> None:
        self._device.free(self._memory.pop(name)[0])
        self._device.free_staging(self._staging.pop(name))

    def _record(self, shapes: Shapes) -> None:
        """Right after a plain run, which finished what TensorRT had put off when the shape was set.

        An engine that cannot be captured (one that waits inside) runs without graphs.
        """
        graph = None
        with contextlib.suppress(DeviceError):
            graph = self._device.capture_graph(self._stream, lambda: self._context.execute_async_v3(self._stream))
        self._want_graph = graph is not None
        if graph is not None:
            self._graphs[shapes] = graph
        if len(self._graphs) > _MOST_GRAPHS:
            self._device.free_graph(self._graphs.popitem(last=False)[1])

    def _drop_graphs(self) -> None:
        while self._graphs:
            self._device.free_graph(self._graphs.popitem()[1])
