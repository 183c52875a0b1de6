"""Write an ONNX model: one file, or above 2 GB the weights beside it."""

from __future__ import annotations

from pathlib import Path

import onnx

from apa_deploy.errors import InputError

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
    _check(proto, path)
    return written


def _check(proto: onnx.ModelProto, path: Path) -> None:
    """onnx's checker; it wants the shape of every output, which ONNX Runtime does not, nor every exporter gives."""
    if not all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        return
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = next(line for line in str(error).splitlines() if line.strip())[:300]
        raise InputError(
            f"a graph that onnx's checker refuses: {reason}",
            "a graph that follows the standard of its opset",
            "Export the model again, for the opset that its operators are of.",
        ) from error
