"""A Polygraphy runner over ONNX Runtime that takes float32 feeds whatever the file's inputs are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from ..graph.precision import NUMPY_TYPE
from .inputs import Feed

_TYPES = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}


class SessionRunner(BaseRunner):
    """The file at `path` on the CPU provider.

    Args:
        library: custom operators to register.
        optimise: whether ONNX Runtime may rewrite the graph.
        inputs: the type whose values the inputs are rounded to first; a half input is rounded in any case.
    """

    def __init__(
        self, path: Path, name: str, library: Path | None = None, *, optimise: bool = True, inputs: str = "fp32"
    ) -> None:
        super().__init__(name=name)
        self._path, self._library, self._optimise = path, library, optimise
        self._rounding = NUMPY_TYPE[inputs]

    def activate_impl(self) -> None:
        self._session = quiet_session(self._path, self._library, self._optimise)

    def deactivate_impl(self) -> None:
        del self._session

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for value in self._session.get_inputs():
            metadata.add(value.name, dtype=np.float32, shape=[d if isinstance(d, int) else -1 for d in value.shape])
        return metadata

    def infer_impl(self, feed_dict: Feed) -> dict[str, np.ndarray]:
        wanted = {value.name: _TYPES[value.type] for value in self._session.get_inputs()}
        feed = {name: array.astype(self._rounding).astype(wanted[name]) for name, array in feed_dict.items()}
        start = time.perf_counter()
        values = self._session.run(None, feed)
        self.inference_time = time.perf_counter() - start
        return {out.name: value for out, value in zip(self._session.get_outputs(), values, strict=True)}


def quiet_session(path: Path, library: Path | None = None, optimise: bool = True) -> Any:
    """An ONNX Runtime session on the CPU, from a file whose weights may lie beside it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if library:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
