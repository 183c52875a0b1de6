"""A canonical float32 model -> the same model with explicit Q/DQ in 8 bits: `plan`, then `rewrite`."""

from .plan import CPU, TENSORRT, TENSORRT_FP8, Placement, Plan, make_plan
from .rewrite import prepare_for_plan, quantised, scales_of

__all__ = [
    "CPU",
    "TENSORRT",
    "TENSORRT_FP8",
    "Placement",
    "Plan",
    "make_plan",
    "prepare_for_plan",
    "quantised",
    "scales_of",
]
