"""Activations that a table of 256 entries can hold: whatever computes one element from one element.

    com.apa::AGLU(z), com.apa::APA(z)                       scalar parameters
    z -> Sigmoid, Mul -> y        and any other piece       SiLU, GELU, HardSwish, Mish, a decomposed AGLU, ...

The pieces are found as `recognise` finds them: by where they begin and end, not by how they are spelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx

from ...maths import UNIT, Float64, aglu_float64, apa_float64
from ..node import is_activation, read_parameters
from ..recognise.cut import Cut, cuts
from ..recognise.evaluate import FLOATS, is_elementwise
from ..recognise.scope import Scope
from ..values import infer_types

# A piece without one of these is arithmetic (a scale, a clip, ReLU), which runtimes fuse by themselves.
_CURVED = frozenset(
    {"Sigmoid", "Tanh", "Exp", "Softplus", "Erf", "Gelu", "Mish", "HardSigmoid", "HardSwish", "Swish"}
    | {"Elu", "LeakyRelu", "Softsign"}
)  # fmt: skip
# Bounded: at the end of a network they are scores, not features.
_BOUNDED = frozenset({"Sigmoid", "Tanh", "HardSigmoid", "Softsign"})


@dataclass(frozen=True)
class PointwiseUnit:
    """`source` -> `target`, element by element. `inside`: outputs of its nodes; `curve`: float64 -> float64."""

    name: str
    kind: str
    source: str
    target: str
    inside: frozenset[str]
    curve: Callable[[Float64], Float64] = field(repr=False, compare=False)
    bounded: bool = False


def pointwise_units(model: onnx.ModelProto) -> list[PointwiseUnit]:
    """The activations of the main graph, none of which share a node."""
    scope = Scope(model.graph, infer_types(model))
    found = [unit for node in model.graph.node if is_activation(node) and (unit := _canonical(node))]
    claimed = {name for unit in found for name in unit.inside}
    for node in reversed(model.graph.node):
        if (
            is_elementwise(node)
            and node.output[0] not in claimed
            and (unit := _match_spelling(scope, node, claimed))
        ):
            found.append(unit)
            claimed |= unit.inside
    return found


def _canonical(node: onnx.NodeProto) -> PointwiseUnit | None:
    parameters = read_parameters(node)
    if parameters.channels > 1:
        return None  # a table a channel would be a gather
    formula = aglu_float64 if node.op_type == UNIT else apa_float64
    lambda_, kappa = parameters.lambda_[0], parameters.kappa[0]
    return PointwiseUnit(
        node.name or node.output[0],
        node.op_type,
        node.input[0],
        node.output[0],
        frozenset(node.output),
        lambda z: formula(z, lambda_, kappa),
        bounded=node.op_type != UNIT,
    )


def _match_spelling(scope: Scope, node: onnx.NodeProto, claimed: set[str]) -> PointwiseUnit | None:
    """The largest piece that ends at `node`."""
    for cut in reversed(list(_usable(scope, node.output[0], claimed))):
        kind = " ".join(sorted(cut.operators & _CURVED))
        inside = frozenset(inner.output[0] for inner in cut.nodes)
        name = cut.nodes[-1].name or cut.root
        bounded = cut.nodes[-1].op_type in _BOUNDED
        return PointwiseUnit(name, kind, cut.source, cut.root, inside, _runs(cut), bounded)
    return None


def _usable(scope: Scope, root: str, claimed: set[str]) -> Iterator[Cut]:
    for cut in cuts(scope, root, is_elementwise):  # a table stands between two coders, never across them
        source = scope.type_of(cut.source)
        floats = source is not None and source.element in FLOATS
        scalars = all(constant.values.size == 1 for constant in cut.constants.values())
        free = not any(inner.output[0] in claimed for inner in cut.nodes)
        alone = cut.escape(scope) is None and not cut.looks_elsewhere
        if floats and scalars and free and cut.operators & _CURVED and alone:
            yield cut


def _runs(cut: Cut) -> Callable[[Float64], Float64]:
    return lambda z: np.asarray(cut.run(np.asarray(z, np.float64)), np.float64).reshape(np.shape(z))
