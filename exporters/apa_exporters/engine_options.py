"""The options that every kind of TensorRT engine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .onnx.options import GraphOptions
from .options import BATCHES, Batches, batch_option, batches_from, nest, option


@dataclass(frozen=True)
class EngineOptions:
    """`graph`: of the ONNX files inside. `batches`: least, usual and largest, all equal for a fixed one.

    `strip_weights`: leave the weights out of the engine.
    """

    group: ClassVar[str] = "engine"

    graph: GraphOptions = nest(GraphOptions)
    batches: Batches = batch_option(BATCHES, read=batches_from)
    strip_weights: bool = option(False, "leave the weights out; needs a GPU")

    @property
    def fixed_batch(self) -> int | None:
        """The batch, where there is but one."""
        return self.batches[0] if self.batches[0] == self.batches[2] else None
