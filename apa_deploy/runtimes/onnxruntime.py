"""ONNX Runtime, with our operators registered where they belong."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..native import LibraryError, ort_library, trt_plugin_library
from ..require import require
from .providers import Choice, Wanted, chosen

_VERSIONS = ">=1.17"
_ADD = "pip install 'onnxruntime>=1.17'"


class OnnxRunner:
    """A `Runner` over `onnxruntime.InferenceSession`, whose `run` is safe from several threads."""

    def __init__(self, path: Path, threads: int | None, providers: Sequence[Wanted] | None) -> None:
        ort = require("onnxruntime", _VERSIONS, add=_ADD)
        choice = chosen(providers, ort.get_available_providers(), _plugin())
        self._session = _session(ort, path, session_options(ort, threads, choice.cpu_library), choice)
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = self._session
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        try:
            values = session.run(self.output_names, arrays)
        except Exception as error:
            raise _refusal(error, "inputs of the model's shapes and dtypes") from error
        return dict(zip(self.output_names, values, strict=True))

    def close(self) -> None:
        del self._session


def session_options(ort: Any, threads: int | None, library: bool) -> Any:
    """`onnxruntime.SessionOptions` with the thread count and, where `library`, our operators."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised; ONNX Runtime would print it as well
    if threads is not None:
        options.intra_op_num_threads = threads
    if library and (path := _cpu_library()):
        options.register_custom_ops_library(str(path))
    return options


def _session(ort: Any, path: Path, options: Any, choice: Choice) -> Any:
    names, details = zip(*choice.providers, strict=True)
    try:
        return ort.InferenceSession(str(path), options, providers=list(names), provider_options=list(details))
    except Exception as error:
        raise _refusal(error, f"{path.name} to load in ONNX Runtime {ort.__version__}") from error


def _refusal(error: Exception, wanted: str) -> InputError:
    text = str(error).removeprefix("[ONNXRuntimeError] : ").strip()
    return InputError(f"ONNX Runtime says: {text}", wanted, "Check the file and what is given to it.")


@cache
def _cpu_library() -> Path | None:
    """Our library, or None where it is not built: that is said once, for the model runs all the same."""
    try:
        return ort_library()
    except LibraryError as error:
        print(f"apa-deploy: {error} The model's function bodies run instead.", file=sys.stderr)
        return None


def _plugin() -> Path | None:
    try:
        return trt_plugin_library()
    except LibraryError:
        return None
