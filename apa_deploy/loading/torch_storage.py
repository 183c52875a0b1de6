"""What a number type makes unavoidable: the float64 module with every value it stores rounded to the type.

    Conv(float64, weights rounded) -> y      becomes      y rounded -> BatchNorm(float64) -> rounded -> ...

Exact arithmetic, so nothing but storing is wrong with it, and nothing is learned from the exported graph.
Activations and normalisations compute inside in float64, as the islands of the graph do in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

TORCH_TYPE = {"fp16": torch.float16, "bf16": torch.bfloat16}
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)


def store_in(module: nn.Module, precision: str, activations: Collection[str]) -> nn.Module:
    """A float64 copy of `module` that rounds its inputs, its weights and what each of its modules returns.

    Args:
        precision: "fp16" or "bf16". Beyond the type's range values saturate, so that the error stays finite.
        activations: paths of the activations, inside which nothing is rounded.
    """
    double, element = copy.deepcopy(module).double(), TORCH_TYPE[precision]
    within = tuple(f"{path}." for path in activations)
    for path, part in double.named_modules():
        if isinstance(part, _WEIGHTED) or getattr(part, "stores_weights", False):
            for name, parameter in part.named_parameters(recurse=False):
                if name in ("weight", "bias"):
                    parameter.data = round_to(parameter.data, element)
        if not path.startswith(within):
            part.register_forward_hook(lambda _module, _inputs, output: _round_all(output, element))
    double.register_forward_pre_hook(
        lambda _module, inputs, named: (_round_all(inputs, element), _round_all(named, element)), with_kwargs=True
    )
    return double


def round_to(value: Tensor, element: torch.dtype) -> Tensor:
    """`value` rounded to `element`, saturating, in its own type."""
    limit = torch.finfo(element).max
    return value.clamp(-limit, limit).to(element).to(value.dtype)


def _round_all(values: Any, element: torch.dtype) -> Any:
    """`round_to` for a tensor, or all in a tuple, list or dict; anything else as it is."""
    if isinstance(values, Tensor):
        return round_to(values, element) if values.is_floating_point() else values
    if type(values) in (tuple, list):
        return type(values)(_round_all(value, element) for value in values)
    if type(values) is dict:
        return {key: _round_all(value, element) for key, value in values.items()}
    return values
