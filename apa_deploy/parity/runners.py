"""Polygraphy runners: a torch module, and ONNX Runtime with or without our library."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.common import TensorMetadata
from polygraphy.logger import G_LOGGER
from torch import nn

from .inputs import Feed


class TorchRunner(BaseRunner):
    """A torch module as a Polygraphy runner; floating inputs are cast to `dtype`."""

    def __init__(
        self, module: nn.Module, feed: Feed, outputs: Sequence[str], dtype: torch.dtype, name: str
    ) -> None:
        super().__init__(name=name)
        self._module, self._feed, self._outputs, self._dtype = module, feed, tuple(outputs), dtype

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for name, array in self._feed.items():
            metadata.add(name, dtype=array.dtype, shape=(-1, *array.shape[1:]))
        return metadata

    def infer_impl(self, feed_dict: Feed) -> dict[str, np.ndarray]:
        start = time.perf_counter()
        with torch.inference_mode():
            values = self._module(*(cast_floats(array, self._dtype) for array in feed_dict.values()))
        self.inference_time = time.perf_counter() - start
        values = (values,) if isinstance(values, torch.Tensor) else values
        return {name: value.numpy() for name, value in zip(self._outputs, values, strict=True)}


def cast_floats(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """`array` as a tensor, in `dtype` if it is floating: pixels stay pixels."""
    tensor = torch.from_numpy(array)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def onnxruntime_runner(path: Path, name: str, library: Path | None = None) -> OnnxrtRunner:
    """ONNX Runtime on the CPU; `library`: custom operators to register."""
    return OnnxrtRunner(lambda: cpu_session(path, library), name=name)


def cpu_session(model: Path | bytes, library: Path | None = None) -> Any:
    """A quiet `onnxruntime.InferenceSession` on the CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(str(library))
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@contextmanager
def quiet_polygraphy() -> Iterator[None]:
    """Polygraphy reports by its logger; our own report says what matters."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        yield
