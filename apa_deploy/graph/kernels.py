"""Canonical nodes -> nodes for TensorRT's ahead-of-time Python plugins, and what each one's kernel computes with.

    com.apa::AGLU <lambda, kappa, axis> (x)   ->   com.apa::AGLUKernel <layer> (x)

A Python plugin takes no attribute that is called `lambda`, and one that is compiled ahead of time keeps none in the
plan: a node says only which layer it is, and the layer's coefficients go into the text of its kernel. The names are
others than those of the C++ plugin, so that the parser never confuses the two.
"""

from __future__ import annotations

import copy
import math
import struct
from dataclasses import dataclass

import onnx
from onnx import helper

from ..errors import InputError
from .node import DOMAIN, PLUGIN_NAMESPACE, PLUGIN_VERSION, all_activations, read_parameters

SUFFIX = "Kernel"
_SMALLEST = 2.0**-100  # kSmallestLambda and kLargeFrom of plugins/include/apa/math.h
_LARGE_FROM = 0.25
_LOG2_E = 1.4426950408889634074


@dataclass(frozen=True)
class Kernel:
    """What a layer computes: "APA" or "AGLU", `regime` "small" or "large", `coefficients` the 32 bytes of
    `Coefficients<float>` (plugins/include/apa/math.h)."""

    kind: str
    regime: str
    coefficients: bytes


def with_kernels(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Kernel]]:
    """A copy of a canonical model with such nodes, and a `Kernel` for each, by its number.

    Raises:
        InputError: a layer has parameters per channel; these kernels have none.
    """
    changed, kernels = copy.deepcopy(model), []
    for node in all_activations(changed.graph):
        parameters = read_parameters(node)
        if parameters.channels > 1:
            saw = f"{node.name or node.op_type} with {parameters.channels} values of lambda and kappa"
            raise InputError(
                saw, "one of each", "Use --activation plugin or decomposed for parameters per channel."
            )
        (pair,) = parameters.pairs
        kernels.append(fold_kernel(node.op_type, *pair))
        given = {"layer": len(kernels) - 1, "plugin_version": PLUGIN_VERSION, "plugin_namespace": PLUGIN_NAMESPACE}
        node.op_type += SUFFIX
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(name, value) for name, value in given.items())
    kept = [function for function in changed.functions if function.domain != DOMAIN]
    del changed.functions[:]
    changed.functions.extend(kept)
    return changed, kernels


def fold_kernel(kind: str, lambda_: float, kappa: float) -> Kernel:
    """As `coefficients<float>` of plugins/include/apa/math.h folds them: in float64, each rounded once."""
    kept = max(lambda_, _SMALLEST)
    slope, rate = -kappa * _LOG2_E, -1 / kept
    large = kept >= _LARGE_FROM
    numbers = (slope, slope - _single(slope), math.log2(kept), kept, rate, rate - _single(rate))
    return Kernel(kind, "large" if large else "small", struct.pack("<6f2i", *numbers, large, 0))


def _single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
