"""What a model declares, or shape inference finds, about its values."""

from __future__ import annotations

import onnx
from onnx.external_data_helper import ExternalDataInfo

# Above this size shape inference would have to copy the model through a file.
_LARGEST_TO_INFER = (1 << 31) - (1 << 20)


def ranks_and_types(model: onnx.ModelProto) -> dict[str, tuple[int | None, int]]:
    """Rank (None where unknown) and element type (`TensorProto.DataType`) of every value that is typed."""
    source = model if model.ByteSize() >= _LARGEST_TO_INFER else onnx.shape_inference.infer_shapes(model)
    graph = source.graph
    found: dict[str, tuple[int | None, int]] = {t.name: (len(t.dims), t.data_type) for t in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        found[value.name] = (len(tensor.shape.dim) if tensor.HasField("shape") else None, tensor.elem_type)
    return found


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Value name -> the node that makes it; the main graph only."""
    return {output: node for node in model.graph.node for output in node.output if output}


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside an ONNX file that hold its weights."""
    tensors = (t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
    return sorted({ExternalDataInfo(tensor).location for tensor in tensors})
