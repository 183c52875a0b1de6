"""Write an ONNX model: one file, or above 2 GB the weights beside it."""

from __future__ import annotations

from pathlib import Path

import onnx

# protobuf's limit is 2^31 - 1 bytes; the rest of the graph needs room as well.
LARGEST_FILE = (1 << 31) - (64 << 20)


def data_path(path: Path) -> Path:
    """Where the weights of a large model lie: MODEL.onnx.data beside MODEL.onnx."""
    return path.with_name(path.name + ".data")


def write_onnx(proto: onnx.ModelProto, path: Path, largest: int = LARGEST_FILE) -> list[Path]:
    """Write and check the model; returns the files written, the model first.

    Args:
        largest: above so many bytes of weights they go to `data_path(path)`.
    """
    weights = sum(len(tensor.raw_data) for tensor in proto.graph.initializer)
    if weights <= largest:
        onnx.save(proto, path)
        written = [path]
    else:
        data = data_path(path)
        onnx.save_model(proto, path, save_as_external_data=True, location=data.name, size_threshold=1024)
        written = [path, data]
    onnx.checker.check_model(str(path), full_check=True)
    return written
