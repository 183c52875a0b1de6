"""Polygraphy runners over artifacts: `Session` on any provider, OpenVINO, and a half graph with every rounding."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from ..graph.emulate import emulate_halves
from ..graph.read import read_graph
from ..parity.session_runner import SessionRunner
from ..records.placement import KernelPlacement
from ..runtimes.openvino import compile_model
from ..runtimes.providers import SESSIONS
from ..runtimes.session import Session
from ..tensors.signature import Feed, Profile, TensorSpec
from .signature import OnnxFacts

RUNNERS = (*SESSIONS, "openvino", "tensorrt", "tensorrt-rtx")


class ArtifactRunner(BaseRunner):
    """A file in the `Session` that belongs to it; half outputs come as float32, for numpy has no bf16.

    Args:
        inputs: what the file takes, where it is known: feeds are given in these types.
        trust: load an engine whose hash is in no passport.
        profile: what TensorRT's provider builds for.
    """

    placement: KernelPlacement | None = None  # beside a GPU's provider, after the first run

    def __init__(
        self,
        path: Path,
        name: str,
        inputs: Sequence[TensorSpec] = (),
        runner: str = "onnxruntime",
        *,
        trust: bool = False,
        profile: Profile | None = None,
    ) -> None:
        super().__init__(name=name)
        self._path, self._inputs = path, {t.name: t for t in inputs}
        self._options: dict[str, Any] = {
            "providers": SESSIONS[runner],
            "trust_engine": trust,
            "profile": profile,
        }

    def activate_impl(self) -> None:
        self._session = Session(self._path, **self._options)

    def deactivate_impl(self) -> None:
        self._session.close()

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for name in self._session.input_names:
            spec = self._inputs.get(name)
            uint8 = spec is not None and spec.dtype == "uint8"
            metadata.add(name, dtype=np.uint8 if uint8 else np.float32, shape=_open(spec))
        return metadata

    def infer_impl(self, feed_dict: Feed) -> Feed:
        feed = {name: in_type(array, self._inputs.get(name)) for name, array in feed_dict.items()}
        start = time.perf_counter()
        values = self._session.run(feed)
        self.inference_time = time.perf_counter() - start
        if self._options["providers"] and not self.placement:
            self.placement = self._session.find_placement(feed)
        return as_float32(values)


def in_type(array: np.ndarray, spec: TensorSpec | None) -> np.ndarray:
    """A feed in the type that the file takes."""
    return array if spec is None else array.astype(spec.numpy_dtype)


def _open(spec: TensorSpec | None) -> list[int] | None:
    """A shape as Polygraphy writes it: -1 where it is open."""
    return [-1 if isinstance(dim, str) else dim for dim in spec.dims] if spec and spec.dims else None


def as_float32(values: Mapping[str, Any]) -> Feed:
    """Outputs whose half types became float32: exact."""
    halves = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
    arrays = {name: np.asarray(value) for name, value in values.items()}
    return {name: a.astype(np.float32) if a.dtype in halves else a for name, a in arrays.items()}


class EmulatedRunner(SessionRunner):
    """A half graph with every stored value rounded to its type, in float32 (`graph.emulate`)."""

    def __init__(self, path: Path, name: str, precision: str) -> None:
        super().__init__(path, name, optimise=False, inputs=precision)
        self._original = path

    def activate_impl(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="apa-")
        self._path = Path(self._folder.name) / "emulated.onnx"
        plain = emulate_halves(read_graph(self._original, weights=True))
        onnx.save_model(plain, self._path, save_as_external_data=True, location="weights", size_threshold=1024)
        super().activate_impl()

    def deactivate_impl(self) -> None:
        super().deactivate_impl()
        self._folder.cleanup()


class OpenVinoRunner(BaseRunner):
    """An ONNX file in OpenVINO on the CPU, in the precision of the graph."""

    def __init__(self, path: Path, name: str, facts: OnnxFacts) -> None:
        super().__init__(name=name)
        self._path, self._facts = path, facts

    def activate_impl(self) -> None:
        self._compiled = compile_model(self._path)

    def deactivate_impl(self) -> None:
        del self._compiled

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for spec in self._facts.signature.inputs:
            metadata.add(spec.name, dtype=spec.numpy_dtype, shape=_open(spec))
        return metadata

    def infer_impl(self, feed_dict: Feed) -> Feed:
        types = {spec.name: spec for spec in self._facts.signature.inputs}
        feed = {name: in_type(array, types[name]) for name, array in feed_dict.items()}
        start = time.perf_counter()
        values = self._compiled(feed)
        self.inference_time = time.perf_counter() - start
        return as_float32(
            {name: values[name].copy() for name in (spec.name for spec in self._facts.signature.outputs)}
        )
