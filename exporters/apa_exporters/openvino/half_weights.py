"""Store the weights of a float32 graph in half: the graph still computes in float32.

    Conv(x, w: float32)    becomes    Conv(x, Cast(w: fp16) to float32)

Weights are the constants of layers that multiply by them, two dimensions or more. Biases and the constants of the
decomposed activations stay float32: they are few, and an activation's error grows with that of its lambda.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"}
_LARGEST = float(np.finfo(np.float16).max)


def store_weights_in_half(model: onnx.ModelProto) -> list[str]:
    """Change `model` itself; the weights that fp16 cannot hold, which stay float32."""
    used = {name for node in model.graph.node if node.op_type in _WEIGHTED for name in node.input}
    beyond, casts = [], []
    for tensor in model.graph.initializer:
        if tensor.name not in used or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0.0) > _LARGEST:
            beyond.append(tensor.name)
            continue
        whole, half = tensor.name, f"{tensor.name}/fp16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [whole], name=f"{whole}/to_float32", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return beyond
