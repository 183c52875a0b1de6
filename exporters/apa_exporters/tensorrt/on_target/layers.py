"""What an engine is made of, by TensorRT's own inspector: kernels by type, and the number types they write.

An engine that was asked for in fp16 and is not really in it is as large and as slow as one in fp32, and nothing
else says so. TensorRT 10 and 11 spell types in several ways: "Half", "Row major linear FP16 format".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

_SPELLINGS = {
    "bf16": re.compile(r"\b(BF16|BFLOAT16)\b", re.IGNORECASE),
    "fp16": re.compile(r"\b(FP16|HALF|FLOAT16)\b", re.IGNORECASE),
    "fp32": re.compile(r"\b(FP32|FLOAT|FLOAT32)\b", re.IGNORECASE),
    "int8": re.compile(r"\b(INT8)\b", re.IGNORECASE),
    "fp8": re.compile(r"\b(FP8|FLOAT8|E4M3)\w*", re.IGNORECASE),
}
_IN_PART = ("int8", "fp8")
_FIELD = re.compile("data ?type|format", re.IGNORECASE)
_HEAVY = re.compile("conv|correlation|gemm|matmul|matrix", re.IGNORECASE)
_TACTIC_TYPES = {
    "f16": "fp16",
    "h": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "s": "fp32",
    "tf32": "fp32",
    "i8": "int8",
}
_TACTIC = re.compile(r"_(bf16|f16|tf32|f32|i8|h|s)(?:\1)*(?=_|\d|gemm|conv)")
# Entries that launch no kernel of the network: bookkeeping of shapes on the host, and waiting.
_NO_LAUNCH = {"shape_call", "signal", "wait", "NoOp", "Constant", "TrainStation"}
_NO_LAUNCH |= {"Shape", "ShapeHostToDevice", "DeviceToShapeHost"}


def layers_of(engine: Any, context: Any) -> list[dict[str, Any]]:
    """The inspector's layers; the engine must have been built with detailed verbosity.

    `context`: all its input shapes must be set, after an inference for example. For an engine with dynamic shapes
    the inspector shows no types before that (NvInferRuntime.h, IEngineInspector::setExecutionContext).
    """
    import tensorrt as trt

    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
    return [layer for layer in layers if isinstance(layer, dict)]  # a mere name says nothing


def launches(layers: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many layers there are of each type that launches a kernel."""
    kinds = (layer.get("LayerType", "unknown") for layer in layers)
    return dict(Counter(kind for kind in kinds if kind not in _NO_LAUNCH))


def count_written_types(layers: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many layers write each floating or int8 type."""
    return dict(Counter(kind for layer in layers for kind in _types(layer.get("Outputs", []))))


def computes_in(precision: str, layers: Sequence[dict[str, Any]]) -> bool | None:
    """Whether most convolutions and matrix products compute in `precision`; without any, whether some layer does.

    None where no type can be read. What they write does not tell: the last one may be fused with the Cast to a
    float32 output. Of 8-bit engines any will do: gates and heads stay float.
    """
    heavy = [layer for layer in layers if _HEAVY.search(layer.get("LayerType", ""))]
    found = [kinds for layer in heavy or layers if (kinds := _types_of_layer(layer))]
    if not found:
        return None
    inside = sum(precision in kinds for kinds in found)
    return inside * 2 > len(found) if heavy and precision not in _IN_PART else inside > 0


def _types_of_layer(layer: dict[str, Any]) -> set[str]:
    """The types that a layer reads; where the inspector withholds them, those of its weights or of its kernel."""
    weights = [{"DataType": str(value.get("Type"))} for value in layer.values() if _is_weights(value)]
    return _types(layer.get("Inputs", [])) or _types(weights) or _types_of_tactic(layer.get("TacticName", ""))


def _is_weights(value: Any) -> bool:
    return isinstance(value, dict) and "Type" in value and "Count" in value


def _types_of_tactic(name: str) -> set[str]:
    """sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwc...: the first types are those of the factors."""
    return {_TACTIC_TYPES[match[1]]} if (match := _TACTIC.search(name)) else set()


def _types(tensors: Iterable[dict[str, Any]]) -> set[str]:
    return {found for tensor in tensors if (found := _type(tensor))}


def _type(tensor: dict[str, Any]) -> str | None:
    """TensorRT 11 has a field for the type, TensorRT 10 one for type and format together."""
    text = " ".join(str(value) for key, value in tensor.items() if _FIELD.search(key))
    return next((name for name, spelling in _SPELLINGS.items() if spelling.search(text)), None)
