"""Which kernel runs each activation in a session of ONNX Runtime: read from what ONNX Runtime says, judged here.

ONNX Runtime says it twice: as a session is made (1.24 and later, `placed_by_session`), and in the profile of a run
(every version, `placed_by_profile`). The judgement is a function of the nodes alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..records.placement import KernelPlacement
from .providers import CPU, TENSORRT

RECORD_ENTRY = ("session.record_ep_graph_assignment_info", "1")
# Each is one activation; in a model prepared for the CPU some do more than that.
_FUSED = frozenset({"APA", "AGLU", "GatedAGLU", "QLinearAGLU", "QLinearAddAGLU", "QLinearGatedAddAGLU"})
_COPIES = frozenset({"MemcpyFromHost", "MemcpyToHost"})


@dataclass(frozen=True)
class PlacedNode:
    """A node of the graph that runs, and the provider that runs it."""

    operator: str
    provider: str


def judge_placement(nodes: Iterable[PlacedNode], activations: int, wanted: str = CPU) -> KernelPlacement:
    """What the nodes of a session say of a model with so many activations. `wanted`: the first of its providers."""
    placed = list(nodes)
    fused: dict[str, Counter[str]] = defaultdict(Counter)
    for node in placed:
        if node.operator in _FUSED:
            fused[node.provider][node.operator] += 1
    left = Counter(
        node.provider
        for node in placed
        if node.provider != wanted and node.operator not in _FUSED | _COPIES and wanted != CPU
    )
    return KernelPlacement(
        wanted=wanted,
        fused={provider: dict(kinds) for provider, kinds in fused.items()},
        others=max(0, activations - sum(map(Counter.total, fused.values()))),
        in_engines=any(node.provider == TENSORRT for node in placed),
        copies=sum(node.operator in _COPIES for node in placed),
        left=dict(left),
    )


def placed_by_session(session: Any) -> tuple[PlacedNode, ...] | None:
    """From a session whose options had `RECORD_ENTRY`; None: this ONNX Runtime does not say it."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return tuple(
        PlacedNode(node.op_type, subgraph.ep_name)
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    )


def placed_by_profile(events: Iterable[Mapping[str, Any]]) -> tuple[PlacedNode, ...]:
    """From the events of a profile, in which a node occurs once for each run of it."""
    nodes = {
        event["name"]: PlacedNode(event["args"]["op_name"], event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node" and "provider" in event.get("args", {})
    }
    return tuple(nodes.values())
