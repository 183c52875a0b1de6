"""ONNX Runtime on the CPU, as plain as it comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plain_session(model: Path | bytes) -> Any:
    """A quiet `onnxruntime.InferenceSession` on the CPU provider, without our library."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
