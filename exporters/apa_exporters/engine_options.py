"""The options that every kind of TensorRT engine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from apa_deploy.choices import FP8, INT8, PRECISIONS

from .onnx.options import GraphOptions, OnnxOptions
from .options import BATCHES, Batches, batch_option, batches_from, nest, option


@dataclass(frozen=True)
class EngineGraphOptions(GraphOptions):
    """As TensorRT wants it: symmetric codes, behind activations only."""

    precision: str = option("fp32", choices=(*PRECISIONS, INT8, FP8))

    def as_onnx(self, format: str, batch: int | None, **changes: Any) -> OnnxOptions:
        return super().as_onnx(format, batch, **({"placement": "tensorrt"} | changes))


@dataclass(frozen=True)
class EngineOptions:
    """`graph`: of the ONNX files inside. `batches`: least, usual and largest, all equal for a fixed one.

    `strip_weights`: leave the weights out of the engine.
    """

    group: ClassVar[str] = "engine"

    graph: EngineGraphOptions = nest(EngineGraphOptions)
    batches: Batches = batch_option(BATCHES, read=batches_from)
    strip_weights: bool = option(False, "leave the weights out; needs a GPU")

    @property
    def fixed_batch(self) -> int | None:
        """The batch, where there is but one."""
        return self.batches[0] if self.batches[0] == self.batches[2] else None
