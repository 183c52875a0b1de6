"""Judge outputs that another process or machine recorded, by the same gate as a file that runs here."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from torch import nn

from ..graph.precision import UNIT_ROUNDOFF
from .half import ONE_LAYER
from .inputs import Feed
from .model_gate import FLOOR, check_outputs
from .report import OutputCheck
from .runners import TorchRunner
from .storage import stored_in


def check_recorded(
    recorded: Sequence[dict[str, np.ndarray]],
    name: str,
    module: nn.Module,
    activations: Sequence[str],
    feeds: Sequence[Feed],
    output_names: Sequence[str],
    precision: str,
) -> list[OutputCheck]:
    """One check an output.

    Args:
        recorded: outputs by name for each of `feeds`.
        name: what recorded them, for the report.
        activations: paths of the module's learned activations.
    """
    double = copy.deepcopy(module).double()
    stored = None
    if precision != "fp32":
        rounding = stored_in(module, precision, activations)
        stored = TorchRunner(rounding, feeds[0], output_names, torch.float64, f"stored in {precision}")
    return check_outputs(
        TorchRunner(double, feeds[0], output_names, torch.float64, "torch float64"),
        TorchRunner(module, feeds[0], output_names, torch.float32, "torch float32"),
        [RecordedRunner(recorded, feeds[0], name)],
        feeds,
        stored=stored,
        floor=FLOOR if precision == "fp32" else ONE_LAYER * UNIT_ROUNDOFF[precision],
    )


class RecordedRunner(BaseRunner):
    """Plays recorded outputs back, one set a call."""

    def __init__(self, recorded: Sequence[dict[str, np.ndarray]], feed: Feed, name: str) -> None:
        super().__init__(name=name)
        self._recorded, self._feed = recorded, feed

    def activate_impl(self) -> None:
        self._next = iter(self._recorded)

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for name, array in self._feed.items():
            metadata.add(name, dtype=array.dtype, shape=(-1, *array.shape[1:]))
        return metadata

    def infer_impl(self, feed_dict: Feed) -> dict[str, np.ndarray]:
        self.inference_time = 0.0
        return dict(next(self._next))
