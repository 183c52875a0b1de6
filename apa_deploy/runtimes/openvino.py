"""OpenVINO on the CPU: ONNX files, and its own IR (OUT.xml, OUT.bin), in a precision that is pinned."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..require import require
from .artifacts import OPENVINO, artifact_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cancellation import Cancellation

# OpenVINO's own choice is bf16 where the processor has AMX, and it does not say so.
INFERENCE_PRECISION = "f32"


def compile_model(path: Path, threads: int | None = None) -> Any:
    """An `openvino.CompiledModel` of an .onnx or .xml file, which computes in float32 on any processor.

    Our functions in an ONNX file are inlined, for OpenVINO does not do that itself.

    Args:
        threads: None: OpenVINO's own choice.

    Raises:
        MissingError: OpenVINO is not installed.
        InputError: it refuses the file.
    """
    openvino: Any = require("openvino")
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": INFERENCE_PRECISION,
        "PERFORMANCE_HINT": "LATENCY",
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    model = read_model(path)
    try:
        return openvino.Core().compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise InputError(f"OpenVINO says: {_reason(error)}", "a model that it takes", _advice(path)) from error


def read_model(path: Path) -> Any:
    """An `openvino.Model` of an .onnx or .xml file.

    Raises:
        MissingError: OpenVINO is not installed.
        InputError: it refuses the file.
    """
    openvino: Any = require("openvino")
    try:
        return openvino.Core().read_model(_readable(path))
    except RuntimeError as error:
        raise InputError(f"OpenVINO says: {_reason(error)}", "a model that it takes", _advice(path)) from error


def weights_path(path: Path) -> Path:
    """Where the weights of an IR lie: OUT.bin beside OUT.xml."""
    return path.with_suffix(".bin")


def read_inputs(path: Path) -> list[tuple[str, list[int | None], str]]:
    """Name, sizes (None: open) and numpy's type of each input of an IR.

    Raises:
        MissingError: OpenVINO is not installed.
        InputError: it refuses the file.
    """
    return [
        (
            one.get_any_name(),
            [None if size.is_dynamic else size.get_length() for size in one.get_partial_shape()],
            np.dtype(one.get_element_type().to_dtype()).name,
        )
        for one in read_model(path).inputs
    ]


class OpenVinoSession:
    """A `Runner` over an IR. The files are held against the passport beside them, where there is one."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ..records.integrity import verify_passport

        verify_passport(path, [weights_path(path).name])
        self.prepared: Path | None = None
        self._model = compile_model(path, threads)
        self.input_names = tuple(value.get_any_name() for value in self._model.inputs)
        self.output_names = tuple(value.get_any_name() for value in self._model.outputs)
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def run(
        self, inputs: Mapping[str, np.ndarray], cancellation: Cancellation | None = None
    ) -> dict[str, np.ndarray]:
        for value in self._model.inputs:
            _check_input(value, np.asarray(inputs[value.get_any_name()]))
        with self._request() as request:
            if cancellation:
                cancellation.on_request(request.cancel)
            try:
                values = request.infer(dict(inputs))
            except RuntimeError as error:
                wanted = "inputs of the model's shapes and types"
                raise InputError(
                    f"OpenVINO says: {_reason(error)}", wanted, "Check what is given to it."
                ) from error
            return {name: values[name].copy() for name in self.output_names}  # the next run writes over them

    def close(self) -> None:
        del self._model, self._idle

    @contextmanager
    def _request(self) -> Iterator[Any]:
        """An infer request of this thread alone: one of them holds the buffers of one run."""
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._model.create_infer_request()
        yield request
        self._idle.put(request)


def _check_input(value: Any, array: np.ndarray) -> None:
    """OpenVINO converts a type that is not the model's, runs on another shape, and says nothing of either."""
    wanted, shape = np.dtype(value.get_element_type().to_dtype()), value.get_partial_shape()
    fits = shape.rank.is_dynamic or (
        len(shape) == array.ndim
        and all(dim.is_dynamic or dim.get_length() == size for dim, size in zip(shape, array.shape, strict=True))
    )
    if array.dtype != wanted or not fits:
        saw = f"{value.get_any_name()} of type {array.dtype} and shape {array.shape}"
        raise InputError(saw, f"{wanted} and {shape}", "Convert it first.")


def _readable(path: Path) -> str | bytes:
    if artifact_kind(path) is OPENVINO:
        return str(path)
    import onnx
    import onnx.inliner

    from ..graph.read import read_graph

    if not read_graph(path).functions:
        return str(path)
    return onnx.inliner.inline_local_functions(read_graph(path, weights=True)).SerializeToString()


def _reason(error: RuntimeError) -> str:
    """The last line of what it says: those before name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("-- ") if lines else type(error).__name__


def _advice(path: Path) -> str:
    if artifact_kind(path) is not OPENVINO:
        return "Export it in another format, or without what OpenVINO does not know."
    if not weights_path(path).is_file():
        return f"Copy {weights_path(path).name} beside it."
    return "Copy the files again, together, or export the model again."
