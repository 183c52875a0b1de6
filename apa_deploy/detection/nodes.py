"""Writes nodes and constants into an ONNX graph, named so that they can be told apart afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper

from ..graph.islands import FLOAT32_PREFIX

PREFIX = "detector/"


class Nodes:
    """Appends to `graph`; every method returns the name of a value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._count = len(graph.node)
        self._prefix = PREFIX
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._stored: set[str] = set()

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Nodes added inside are no half-precision ones."""
        outer, self._prefix = self._prefix, FLOAT32_PREFIX
        try:
            yield
        finally:
            self._prefix = outer

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """One node with one output; `name`: of the output, where somebody looks for it."""
        return self.several(operator, 1, *inputs, names=(name,) if name else (), **attributes)[0]

    def several(
        self, operator: str, outputs: int, *inputs: str, names: tuple[str, ...] = (), **attributes: Any
    ) -> list[str]:
        """One node with several outputs."""
        self._count += 1
        node = f"{self._prefix}{operator}_{self._count}"
        made = list(names) or [node if outputs == 1 else f"{node}.{i}" for i in range(outputs)]
        self.graph.node.append(helper.make_node(operator, list(inputs), made, name=node, **attributes))
        return made

    def floats(self, values: ArrayLike) -> str:
        """A float32 constant, rounded once."""
        return self._constant(np.asarray(values, dtype=np.float32))

    def stored(self, name: str, values: ArrayLike) -> str:
        """A float32 weight by its own name, once however many nodes read it."""
        if name not in self._stored:
            self._stored.add(name)
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def integers(self, values: ArrayLike) -> str:
        """An int64 constant."""
        return self._constant(np.asarray(values, dtype=np.int64))

    def _constant(self, array: np.ndarray) -> str:
        key = (str(array.dtype), array.shape, array.tobytes() if array.size < 4096 else b"")
        if key in self._constants and array.size < 4096:
            return self._constants[key]
        name = f"{PREFIX}constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        self._constants[key] = name
        return name

    def reshape(self, value: str, *shape: int, name: str = "") -> str:
        """0 keeps a size, -1 takes what is left."""
        return self.add("Reshape", value, self.integers(shape), name=name)

    def unsqueeze(self, value: str, *axes: int) -> str:
        return self.add("Unsqueeze", value, self.integers(axes))

    def halves(self, value: str, parts: tuple[int, ...] = (2, 2)) -> list[str]:
        """The last axis of 4 as two of 2: (x1, y1) and (x2, y2), or (dx, dy) and (dw, dh)."""
        return self.several("Split", len(parts), value, self.integers(parts), axis=-1)
