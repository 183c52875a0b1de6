"""A canonical float32 model -> the same model with explicit Q/DQ in 8 bits: `plan`, then `rewrite`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .plan import CPU, TENSORRT, TENSORRT_FP8, Placement, QuantisationPlan, make_plan
    from .rewrite import prepare_for_plan, quantise_graph, scales_of

# Imported on first use: they need torch, and what only runs a quantised model (`codes`) does without.
_LAZY = {
    "CPU": "plan",
    "TENSORRT": "plan",
    "TENSORRT_FP8": "plan",
    "Placement": "plan",
    "QuantisationPlan": "plan",
    "make_plan": "plan",
    "prepare_for_plan": "rewrite",
    "quantise_graph": "rewrite",
    "scales_of": "rewrite",
}

__all__ = [
    "CPU",
    "TENSORRT",
    "TENSORRT_FP8",
    "Placement",
    "QuantisationPlan",
    "make_plan",
    "prepare_for_plan",
    "quantise_graph",
    "scales_of",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
