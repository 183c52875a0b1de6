"""Operators of somebody's own, which nothing here can run: what lies before them is judged, the rest copied.

images -> network -> boxes, scores -> mmdeploy::TRTBatchedNMS -> dets        judged: boxes, scores
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from .node import DOMAIN, read_by, subgraphs

_KNOWN = {"", "ai.onnx", "ai.onnx.ml", DOMAIN}


@dataclass(frozen=True)
class UnsupportedOperators:
    """`operators`: by domain and name. `entering`: the values that they take from the network."""

    operators: tuple[str, ...]
    entering: tuple[str, ...]

    def __str__(self) -> str:
        several = "run" if len(self.operators) > 1 else "runs"
        entering = ", ".join(self.entering)
        return f"{', '.join(self.operators)} {several} nowhere here: verified up to what enters it ({entering})"


def find_unsupported_part(model: onnx.ModelProto) -> tuple[UnsupportedOperators, tuple[str, ...]] | None:
    """The operators of unknown domains, and the outputs of what can run without them; None without any."""
    operators: dict[str, None] = {}
    behind: set[str] = set()
    entering: dict[str, None] = {}
    made = {output for node in model.graph.node for output in node.output if output}
    for node in model.graph.node:
        unknown = list(_find_unsupported(node))
        operators |= dict.fromkeys(unknown)
        if unknown or behind & read_by(node):
            entering |= dict.fromkeys(name for name in node.input if name in made - behind)
            behind |= set(node.output)
    if not operators:
        return None
    outputs = [value.name for value in model.graph.output if value.name not in behind]
    return UnsupportedOperators(tuple(operators), tuple(entering)), tuple(dict.fromkeys([*outputs, *entering]))


def _find_unsupported(node: onnx.NodeProto) -> Iterator[str]:
    if node.domain not in _KNOWN:
        yield f"{node.domain}::{node.op_type}"
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from _find_unsupported(inner)
