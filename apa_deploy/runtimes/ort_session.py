"""ONNX Runtime on the CPU, quiet, as plain as it comes: the one place that opens such a session.

`runtimes.onnxruntime` opens the session of a user, with kernels, threads and providers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

# What protobuf takes in one piece, with room to spare.
_LARGEST = (1 << 31) - (64 << 20)


def open_session(
    model: Path | bytes | onnx.ModelProto, *, library: Path | None = None, optimise: bool = True
) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU provider, of a model of any size.

    Args:
        library: custom operators to register.
        optimise: whether ONNX Runtime may rewrite the graph.
    """
    if isinstance(model, onnx.ModelProto):
        if sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= _LARGEST:
            with tempfile.TemporaryDirectory(prefix="apa-") as folder:
                path = Path(folder) / "model.onnx"
                save_model(model, path)
                return open_session(path, library=library, optimise=optimise)
        model = model.SerializeToString()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if library:
        options.register_custom_ops_library(str(library))
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write `model`, its weights beside it; its tensors then say that they lie there."""
    onnx.save_model(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=1024)
