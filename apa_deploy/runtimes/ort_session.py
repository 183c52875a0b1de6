"""ONNX Runtime on the CPU, as plain as it comes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

# What protobuf takes in one piece, with room to spare.
_LARGEST = (1 << 31) - (64 << 20)


def plain_session(model: Path | bytes) -> Any:
    """A quiet `onnxruntime.InferenceSession` on the CPU provider, without our library."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def session_of(model: onnx.ModelProto) -> Any:
    """The same, of a model in memory, of any size."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < _LARGEST:
        return plain_session(model.SerializeToString())
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        return plain_session(path)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write `model`, its weights beside it; its tensors then say that they lie there."""
    onnx.save_model(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=1024)
