"""Which kernel runs each activation in a session of ONNX Runtime: read from what ONNX Runtime says, judged here.

ONNX Runtime says it twice: as a session is made (1.24 and later, `placed_by_session`), and in the profile of a run
(every version, `placed_by_profile`). The judgement is a function of the nodes alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class KernelPlacement:
    """`fused`: activations in one kernel of ours, by provider; `others`: the rest of them, whose bodies run.

    `in_engines`: whether some of `others` may be in engines of TensorRT's provider, whose content it does not show.
    `copies`: nodes that copy a tensor between CPU and GPU. `on_cpu`: other nodes that the CPU runs beside a GPU.
    """

    fused: Mapping[str, int]
    others: int
    in_engines: bool
    copies: int
    on_cpu: int

    def __str__(self) -> str:
        """E.g. "2 fused on CUDAExecutionProvider, 1 as function body"."""
        parts = [f"{count} fused on {provider}" for provider, count in sorted(self.fused.items())]
        if self.others:
            bodies = "function body" if self.others == 1 else "function bodies"
            parts.append(f"{self.others} {'in TensorRT engines or as' if self.in_engines else 'as'} {bodies}")
        if self.on_cpu:
            parts.append(f"{self.on_cpu} other node{'s' * (self.on_cpu > 1)} on the CPU")
        if self.copies:
            parts.append(f"{self.copies} cop{'ies' if self.copies > 1 else 'y'} between CPU and GPU")
        return ", ".join(parts) or "no activation"


def judge_placement(nodes: Iterable[PlacedNode], activations: int) -> KernelPlacement:
    """What the nodes of a session say of a model with so many activations."""
    placed = list(nodes)
    fused = Counter(node.provider for node in placed if node.operator in _FUSED)
    providers = {node.provider for node in placed}
    copies = sum(node.operator in _COPIES for node in placed)
    on_cpu = sum(node.provider == CPU and node.operator not in _FUSED | _COPIES for node in placed)
    others = max(0, activations - sum(fused.values()))
    return KernelPlacement(dict(fused), others, TENSORRT in providers, copies, on_cpu if providers - {CPU} else 0)


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
