"""What recognition found and what it left, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

from ...maths import Parameters
from .cut import Cut


class NotApa(str):
    """A reason to leave a piece: what it computes is something else. Other reasons are about a curve that fits."""


class Usual(str):
    """A reason to leave a curve that fits: it is a common function as well, and most likely that."""


@dataclass(frozen=True)
class Fold:
    """One activation of a graph. `cut`: what it was spelled with; `error`: how far its curve was from APA's."""

    name: str
    kind: str
    parameters: Parameters
    cut: Cut = field(repr=False)
    error: float

    @property
    def source(self) -> str:
        """The value that enters it."""
        return self.cut.source

    @property
    def target(self) -> str:
        """The value that leaves it."""
        return self.cut.root

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes that it takes the place of."""
        return self.cut.nodes

    @property
    def spelling(self) -> str:
        """Its operators, in order."""
        return self.cut.spelling


@dataclass(frozen=True)
class Refusal:
    """A piece that looks like an activation and was left as it is: its last node, its operators, and why.

    `is_learned`: it is a learned activation all the same, or GoLU of another beta, and no part of it was folded.
    """

    node: str
    spelling: str
    reason: str
    is_learned: bool = False


@dataclass(frozen=True)
class Recognition:
    """`found`: folded, in the order of the graph. `refused`: left. `kept`: canonical nodes that were there."""

    found: tuple[Fold, ...]
    refused: tuple[Refusal, ...]
    kept: int = 0
