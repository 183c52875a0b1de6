"""What this ONNX Runtime does on this processor with its blocked layout: asked by optimising a tiny model.

Conv -> QuickGelu -> Conv      the first filter's padding tells the block; a Reorder between them, that
                               this version does not keep the layout at a placeholder
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from ..graph.layout.blocked import is_blocked_operator, reorders
from ..graph.layout.placeholders import FIRST_ALPHA, MICROSOFT, PLACEHOLDER
from ..graph.read import read_graph
from .ort_session import open_session, session_options

# Filters of so many input channels enter the layout in every version; 4 outputs are padded to one block.
_CHANNELS, _OUTPUTS = 64, 4


@dataclass(frozen=True)
class Blocking:
    """`size`: channels in a block, 1 where there is no such layout. `kept`: whether placeholders stay in it."""

    size: int
    kept: bool


@cache
def blocking() -> Blocking:
    """The answer for the installed ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        model = read_graph(optimise_to(_probe().SerializeToString(), Path(folder) / "probe.onnx"))
    convolutions = [node for node in model.graph.node if is_blocked_operator(node, "Conv")]
    if not convolutions:
        return Blocking(1, False)
    filters = {t.name: t for t in model.graph.initializer}
    size = filters[convolutions[-1].input[1]].dims[0]
    return Blocking(size, len(convolutions) == 2 and reorders(model) == 2)


def optimise_to(source: bytes | str, target: Path, library: Path | None = None) -> Path:
    """Have ONNX Runtime optimise a model for this machine and write it to `target`."""
    options = session_options(threads=1)
    options.optimized_model_filepath = str(target)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    open_session(source, library=library, options=options)
    return target


def _probe() -> onnx.ModelProto:
    wide = np.zeros((_CHANNELS, _CHANNELS, 1, 1), np.float32)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, None, 8, 8)) for name in "xy"]
    nodes = [
        helper.make_node("Conv", ["x", "wide"], ["a"]),
        helper.make_node(PLACEHOLDER, ["a"], ["b"], domain=MICROSOFT, alpha=FIRST_ALPHA),
        helper.make_node("Conv", ["b", "narrow"], ["y"]),
    ]
    weights = [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(wide[:_OUTPUTS], "narrow")]
    graph = helper.make_graph(nodes, "probe", values[:1], values[1:], weights)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)
