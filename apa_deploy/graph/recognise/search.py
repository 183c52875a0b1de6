"""Search one graph for activations, the largest piece first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import onnx

from ...errors import InputError
from ...maths import GATE, UNIT, Parameters
from .ambiguity import explain_ambiguity
from .cut import Cut, channel_axis, cuts, shape_of_parameters, without_repeats
from .evaluate import FLOATS, QUANTISERS, STANDARD, UnknownError
from .found import Fold, NotApa, Refusal, Usual
from .prove import Proof, draws_curves, merge_channels, prove
from .scope import Scope, Type

# The operators that a spelling can end with, and those of which it needs one.
_LAST = {"Exp", "Mul", "Div", "Pow", "Reciprocal", "Sigmoid", "Where", "Cast", "Identity", "Sqrt"}
_CURVED = {"Exp", "Sigmoid", "Pow"}
# Where torch's exporter records the modules that a node stands in: ['', 'layer1', 'layer1.act', 'exp'].
_SCOPES = "pkg.torch.onnx.name_scopes"


class Search:
    """Finds the activations of one graph. `in_company`: see `explain_ambiguity`."""

    def __init__(self, scope: Scope, *, in_company: bool) -> None:
        self._scope, self._in_company = scope, in_company
        # Values inside what was folded, refused with a reason of its own, refused for its curve.
        self._claimed: set[str] = set()
        self._explained: set[str] = set()
        self._mentioned: set[str] = set()
        self.found: list[Fold] = []
        self.refused: list[Refusal] = []
        self._left: list[tuple[Refusal, set[str]]] = []

    def run(self) -> None:
        """From the end of the graph backwards, so that a unit is met before its gate."""
        for node in reversed(self._scope.graph.node):
            if node.domain in STANDARD and node.op_type in _LAST and node.output[0] not in self._claimed:
                self._try_root(node)
        self.found.reverse()
        for refusal, values in reversed(self._left):
            whole = values.isdisjoint(self._claimed)
            self.refused.append(refusal if whole else replace(refusal, is_learned=False))

    def _try_root(self, node: onnx.NodeProto) -> None:
        reasons: list[tuple[Cut, str]] = []
        for cut in reversed([c for c in cuts(self._scope, node.output[0]) if c.operators & _CURVED]):
            for kind in (UNIT, GATE):
                answer = self._judge_cut(cut, kind)
                if isinstance(answer, Fold):
                    self._claim(answer)
                    return
                reasons.append((cut, answer))
        if reasons:
            self._refuse(node, reasons)

    def _judge_cut(self, cut: Cut, kind: str) -> Fold | str:
        try:
            axis = channel_axis(cut)
        except ValueError as reason:
            return NotApa(reason)
        except UnknownError as reason:
            narrow = without_repeats(cut)
            if shape_of_parameters(narrow) != shape_of_parameters(cut):
                return self._judge_cut(narrow, kind)
            return str(reason) if draws_curves(cut, kind) else NotApa(reason)
        proof = prove(cut, kind, axis)
        if isinstance(proof, str):
            return proof
        ambiguity = explain_ambiguity(cut, kind, proof, in_company=self._in_company)
        if ambiguity:
            return Usual(ambiguity)
        objection = self._object_to_quantiser(cut) or self._unlike(cut, proof, axis) or self._object_to_use(cut)
        return objection or self._fold(cut, kind, proof, axis)

    def _unlike(self, cut: Cut, proof: Proof, axis: int | None) -> str | None:
        """Why one node cannot stand for the piece: it would have another type or shape."""
        source, root = self._scope.type_of(cut.source), self._scope.type_of(cut.root)
        if not (source and source.element) and "Cast" not in cut.operators and cut.element:
            source = Type(cut.element)  # behind an operator of somebody's own: arithmetic has one type throughout
        if source is None or source.element not in FLOATS:
            return f"the type of {cut.source} is not known to be a float"
        if root is not None and root.element and root.element != source.element:
            return f"{cut.source} and {cut.root} have different types"
        if cut.looks_elsewhere and (
            source.dims is None or not root or root.dims != source.dims or None in root.dims
        ):
            return f"constants inside it take the shape of another value than {cut.source}"
        if source.dims is None:
            return f"the rank of {cut.source} is not known" if cut.rank > 1 else None
        if cut.rank > len(source.dims):
            return f"its constants have more dimensions than {cut.source}"
        if axis is not None and source.dims[axis] != proof.lambda_.size and isinstance(source.dims[axis], int):
            return f"{proof.lambda_.size} values along an axis of {source.dims[axis]}"
        return None

    def _object_to_quantiser(self, cut: Cut) -> str | None:
        inside = cut.operators & QUANTISERS
        return f"a quantiser stands inside it ({', '.join(sorted(inside))})" if inside else None

    def _object_to_use(self, cut: Cut) -> str | None:
        name = cut.escape(self._scope)
        return f"{name}, inside it, is used elsewhere as well" if name else None

    def _fold(self, cut: Cut, kind: str, proof: Proof, axis: int | None) -> Fold | str:
        try:
            lambda_, kappa = merge_channels(proof.lambda_), merge_channels(proof.kappa)
        except InputError as error:
            return str(error)
        parameters = Parameters(lambda_, kappa, self._axis(cut, axis))
        name = name_of(cut.nodes[-1])
        return Fold(name, kind, parameters, cut, proof.error)

    def _axis(self, cut: Cut, axis: int | None) -> int:
        if axis is None:
            return 1
        source = self._scope.type_of(cut.source)
        rank = len(source.dims) if source and source.dims is not None else None
        return 1 if rank is not None and rank + axis == 1 else axis

    def _claim(self, fold: Fold) -> None:
        self.found.append(fold)
        self._claimed |= _values(fold.nodes)

    def _refuse(self, node: onnx.NodeProto, reasons: list[tuple[Cut, str]]) -> None:
        """Keep the most telling reason, unless a larger piece gave one: roots come outermost first."""
        cut, reason = min(reasons, key=lambda pair: isinstance(pair[1], NotApa))
        covered = self._explained if not isinstance(reason, NotApa) else self._explained | self._mentioned
        if node.output[0] in covered:
            return
        (self._mentioned if isinstance(reason, NotApa) else self._explained).update(_values(cut.nodes))
        learned = not isinstance(reason, NotApa | Usual) or "GoLU" in reason
        refusal = Refusal(node.name or node.output[0], cut.spelling, reason, learned)
        self._left.append((refusal, _values(cut.nodes)))


def _values(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {node.output[0] for node in nodes}


def name_of(node: onnx.NodeProto) -> str:
    """The module that the last node of a piece stands in, where torch recorded it or the name tells.

    No '#': it would mean another use of the same module.
    """
    scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
    recorded = [name for name in re.findall(r"'([^']*)'", scopes)[:-1] if name]
    name = node.name or node.output[0]
    path = recorded[-1] if recorded else name.rpartition("/")[0] or name
    return path.strip("/").replace("/", ".").replace("#", "_")
