"""Cut elementwise pieces out of a graph: everything between one value `source` and one value `root`.

    Conv -> z -> Mul, Sub, Softplus, ... -> Exp -> root        Cut(source=z, root=root, nodes=[Mul, ..., Exp])

For one root there are several cuts, one for each value that every path to the root passes through.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from .evaluate import Array, UnknownError, evaluate_node, may_be_cut
from .scope import Constant, Scope, element_of

# The longest spelling seen has 23 operators; beyond that nothing is worth the search.
_MOST_NODES = 48


@dataclass
class Cut:
    """`nodes`: in the order of computation. `constants`: the constants that they read, by name."""

    root: str
    source: str
    nodes: list[onnx.NodeProto]
    constants: dict[str, Constant] = field(repr=False)

    def run(self, z: Array) -> Array:
        """The root for `source` = z.

        Raises:
            UnknownError: an operator does not work on these values.
        """
        values: dict[str, Array] = {name: c.values for name, c in self.constants.items()}
        values[self.source] = z
        for node in self.nodes:
            values[node.output[0]] = evaluate_node(node, [values[name] if name else None for name in node.input])
        return values[self.root]

    def curve(self, z: Array) -> Array:
        """`run` in float64, of the shape of z; channels that z lacks are all alike, else the fold would say so."""
        y = self.run(np.asarray(z, np.float64))
        y = y[tuple(slice(0, n) for n in np.shape(z))] if y.ndim == np.ndim(z) else y
        return np.broadcast_to(y, np.shape(z)).copy()

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.nodes}

    @property
    def spelling(self) -> str:
        """Its operators, in order."""
        return " ".join(node.op_type for node in self.nodes)

    @property
    def rank(self) -> int:
        """The largest rank of its constants."""
        return max((c.values.ndim for c in self.constants.values()), default=0)

    @property
    def roundoff(self) -> float:
        return max((c.roundoff for c in self.constants.values()), default=0.0)

    @property
    def looks_elsewhere(self) -> bool:
        """Whether a constant is spread over another shape than that of the source and what follows from it."""
        mine = {self.source, *(node.output[0] for node in self.nodes)}
        return any(not c.like <= mine for c in self.constants.values())

    @property
    def element(self) -> int | None:
        """The element type of its float constants, where they have one."""
        found = {c.roundoff for c in self.constants.values() if c.roundoff}
        return element_of(found.pop()) if len(found) == 1 else None

    def escape(self, scope: Scope) -> str | None:
        """A value inside that is used outside, or None."""
        mine = {id(node) for node in self.nodes}
        for node in self.nodes:
            name = node.output[0]
            if name == self.root:
                continue
            if name in scope.outputs or not _feeds_only(scope, scope.uses[name], mine):
                return name
        return None


def _feeds_only(scope: Scope, users: list[onnx.NodeProto], mine: set[int]) -> bool:
    """Whether `users` are of the piece, or take a shape or a type for constants of it alone."""
    pending, seen = list(users), set(mine)
    while pending:
        user = pending.pop()
        if id(user) in seen:
            continue
        seen.add(id(user))
        after = [one for name in user.output if name for one in scope.uses[name]]
        if not after or not scope.outputs.isdisjoint(user.output):
            return False
        pending += after
    return True


def cuts(scope: Scope, root: str, may_enter: Callable[[onnx.NodeProto], bool] = may_be_cut) -> Iterator[Cut]:
    """The cuts that end at `root`, smallest first, each in the next, of nodes that `may_enter`."""
    frontier, nodes, constants = {root}, list[onnx.NodeProto](), dict[str, Constant]()
    heap = [-scope.index[root]]
    by_index = {scope.index[root]: root}
    while heap and len(nodes) < _MOST_NODES:
        name = by_index[-heapq.heappop(heap)]
        node = scope.makers[name]
        # The last value in the order of computation: if it cannot be entered, no value lies before it alone.
        if not may_enter(node) or scope.constant(name) is not None:
            return
        frontier.discard(name)
        nodes.append(node)
        for value in dict.fromkeys(filter(None, node.input)):
            constant = scope.constant(value)
            if constant is not None:
                constants[value] = constant
            elif value not in frontier:
                frontier.add(value)
                if value in scope.index:
                    by_index[scope.index[value]] = value
                    heapq.heappush(heap, -scope.index[value])
        if not frontier:
            return
        if len(frontier) == 1:
            yield Cut(root, next(iter(frontier)), nodes[::-1], dict(constants))


def sample_curve(cut: Cut, z: Array, axis: int | None) -> Array | None:
    """The root for each z, shape (len(z), C); None where the piece does not work so.

    `z`: shape (N,), or (N, C) with a column a channel along `axis` (counted from the end).
    """
    rank = max(cut.rank, -(axis or 0))
    shape = [len(z)] + [1] * rank
    if z.ndim == 2 and axis is not None:
        shape[axis] = z.shape[1]
    try:
        values = cut.run(z.reshape(shape))
    except UnknownError:
        return None
    if values.ndim != rank + 1 or len(values) != len(z) or values.dtype.kind != "f":
        return None
    return values.reshape(len(z), -1)


def shape_of_parameters(cut: Cut) -> tuple[int, ...]:
    """The shape that the constants have together.

    Raises:
        ValueError: they have none.
    """
    return np.broadcast_shapes(*(c.values.shape for c in cut.constants.values())) if cut.constants else ()


def without_repeats(cut: Cut) -> Cut:
    """The same piece, each constant of size 1 along the axes on which it does not vary."""
    constants = {}
    for name, constant in cut.constants.items():
        values, like = constant.values, constant.like
        for axis, size in enumerate(values.shape):
            first = values.take([0], axis) if size > 1 else values
            if size > 1 and (values == first).all():
                values, like = first, like | {""}
        constants[name] = replace(constant, values=values, like=like)
    return replace(cut, constants=constants)


def channel_axis(cut: Cut) -> int | None:
    """Where the parameters have their channels, from the end; None: one value for all.

    Raises:
        UnknownError: they vary along several axes.
    """
    shape = shape_of_parameters(cut)
    wide = [i - len(shape) for i, size in enumerate(shape) if size > 1]
    if len(wide) > 1:
        raise UnknownError(f"its constants have the shape {shape}: they vary along several axes")
    return wide[0] if wide else None
