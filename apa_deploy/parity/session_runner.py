"""A Polygraphy runner over ONNX Runtime that takes float32 feeds where the file wants half ones."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from ..graph.precision import NUMPY_TYPE
from ..runtimes.ort_session import open_session
from ..tensors.signature import Feed

# Inputs of other types than float32 and its halves are fed as they are.
_FED = {
    "tensor(bool)": np.bool_,
    **{
        f"tensor({name})": getattr(np, name)
        for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    },
    "tensor(double)": np.float64,
}


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
        self._inputs = inputs

    def activate_impl(self) -> None:
        self._session = open_session(self._path, library=self._library, optimise=self._optimise)

    def deactivate_impl(self) -> None:
        del self._session

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for value in self._session.get_inputs():
            shape = [d if isinstance(d, int) else -1 for d in value.shape]
            metadata.add(value.name, dtype=_FED.get(value.type, np.float32), shape=shape)
        return metadata

    def infer_impl(self, feed_dict: Feed) -> dict[str, np.ndarray]:
        types = {value.name: value.type for value in self._session.get_inputs()}
        feed = {name: self._as_wanted(array, types[name]) for name, array in feed_dict.items()}
        start = time.perf_counter()
        values = self._session.run(None, feed)
        self.inference_time = time.perf_counter() - start
        return {out.name: value for out, value in zip(self._session.get_outputs(), values, strict=True)}

    def _as_wanted(self, array: np.ndarray, wanted: str) -> np.ndarray:
        if wanted in _FED:
            return array
        rounded = array.astype(NUMPY_TYPE[self._inputs])
        return rounded.astype(np.float16 if wanted == "tensor(float16)" else np.float32)
