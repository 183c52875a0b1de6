"""What an engine is made of, by TensorRT's own inspector: kernels by type, and the number types they write.

An engine that was asked for in fp16 and is not really in it is as large and as slow as one in fp32, and nothing
else says so. TensorRT 10 and 11 spell types in several ways: "Half", "Row major linear FP16 format".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

_SPELLINGS = {
    "bf16": re.compile(r"\b(BF16|BFLOAT16)\b", re.IGNORECASE),
    "fp16": re.compile(r"\b(FP16|HALF|FLOAT16)\b", re.IGNORECASE),
    "fp32": re.compile(r"\b(FP32|FLOAT|FLOAT32)\b", re.IGNORECASE),
    "int8": re.compile(r"\b(INT8)\b", re.IGNORECASE),
}
# Entries that launch no kernel of the network.
_NO_LAUNCH = {"shape_call", "signal", "wait", "NoOp", "Constant", "ShapeHostToDevice"}


def layers_of(engine: Any, context: Any) -> list[dict[str, Any]]:
    """The inspector's layers; the engine must have been built with detailed verbosity."""
    import tensorrt as trt

    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return list(json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"])


def launches(layers: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many layers there are of each type that launches a kernel."""
    kinds = (layer.get("LayerType", "unknown") for layer in layers)
    return dict(Counter(kind for kind in kinds if kind not in _NO_LAUNCH))


def written_types(layers: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many layers write each floating or int8 type."""
    return dict(
        Counter(found for layer in layers for found in {_type(output) for output in layer["Outputs"]} if found)
    )


def really_in(precision: str, types: dict[str, int]) -> bool:
    """Whether most layers write `precision`. Not all: the activations' islands are float32 on purpose."""
    return types.get(precision, 0) * 2 > sum(types.values())


def _type(tensor: dict[str, Any]) -> str | None:
    """Of one output: TensorRT 11 has a field for the type, TensorRT 10 one for type and format together."""
    text = " ".join(
        str(value) for key, value in tensor.items() if re.search("data ?type|format", key, re.IGNORECASE)
    )
    return next((name for name, spelling in _SPELLINGS.items() if spelling.search(text)), None)
