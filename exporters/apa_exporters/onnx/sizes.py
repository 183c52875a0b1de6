"""Which open sizes of a graph are open in truth: it is run at other sizes, and held against the network there.

A reshape to the batch of the trace or a table of positions is written by every exporter as if it took any size. It
fails at another one, or runs and is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import onnx
from onnx import numpy_helper

from apa_deploy.errors import InputError
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.repair import fix_sizes
from apa_deploy.network import FLOAT32, Network, Trace
from apa_deploy.parity.limits import CEILING
from apa_deploy.runtimes.ort_session import EndlessError, open_session
from apa_deploy.tensors.inputs import is_float, seeded_feeds
from apa_deploy.tensors.signature import BATCH, Feed, Shape, Signature, TensorSpec, read_signature

_USUAL_BATCH = 2  # as in `Network.trace`: torch takes a size of 1 for a constant
_BATCHES = (1, 3, 4, 5)
# Where the network refuses the usual batch, one of these is baked into it.
_BAKED_BATCHES = (*range(1, 17), 32, 64)
_ENOUGH = 2  # other sizes that the network itself takes
_OTHER_ELEMENTS = 0.01  # of integers: where rounding decides, as in an argmax
_Sizes = dict[str, int]


def trace_at_true_sizes(network: Network, opset: int, batch: int | None) -> Trace:
    """`network.trace`, with sizes fixed in the graph and in `network.signature` that only seemed open.

    `notices` of the trace say which.

    Raises:
        InputError: `batch` is none that the network takes.
    """
    notices = _fix_refused_batch(network, batch)
    traced = network.trace(opset, batch or network.signature.first.fixed_batch)
    fixed = _find_sizes_fixed_by_tracing(network, traced, batch) or {}
    if not network.metadata.detector:  # what is behind its backbone is written for any size, and NMS flips
        runs = _Runs(network, traced, batch)
        if runs.session:
            fixed |= runs.find_fixed()
            runs.check_batch(batch)
    _fix(network, traced, fixed)
    notices += [
        f"{name} is fixed at {size}: at other sizes the network or its graph fails, or answers otherwise"
        for name, size in fixed.items()
    ]
    return replace(traced, notices=(*traced.notices, *notices))


def check_profile(shapes: Mapping[str, Sequence[Sequence[int]]], model: onnx.ModelProto) -> None:
    """Raise an `InputError` where an engine's profile wants sizes that the graph fixes.

    `shapes`: least, usual and largest of each input.
    """
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, (dim, sizes) in enumerate(zip(dims, zip(*shapes[value.name], strict=True), strict=True)):
            if dim.HasField("dim_value") and set(sizes) != {dim.dim_value}:
                saw = f"axis {axis} of {value.name} from {sizes[0]} to {sizes[2]}"
                do = f"Leave {'--shapes' if axis else '--batch'} out."
                raise InputError(saw, f"{dim.dim_value}, which the network fixes", do)


def _fix_refused_batch(network: Network, batch: int | None) -> list[str]:
    """Fix the batch in the signature where the network does not take the usual one, but another."""
    if network.metadata.detector or network.signature.first.fixed_batch:
        return []
    if _leading_sizes(network, batch or _USUAL_BATCH) is not None:
        return []
    leading = {size: found for size in _BAKED_BATCHES if (found := _leading_sizes(network, size)) is not None}
    if not leading:
        return []  # it is not for the batch that it refuses them
    # of a reshape to (6, -1) some others run as well
    found = next((size for size, sizes in leading.items() if size in sizes), next(iter(leading)))
    if batch:
        raise _contradiction(batch, found)
    network.signature = _with_sizes(network.signature, {BATCH: found})
    several = " as the first size of every input" if len(network.signature.inputs) > 1 else ""
    return [f"{BATCH} is fixed at {found}: the network takes no other{several}"]


def _leading_sizes(network: Network, batch: int) -> list[int] | None:
    """The first axis of each output at this batch; None where the network does not take it."""
    try:
        outputs = network.outputs(seeded_feeds(network.signature, batch)[0], FLOAT32)
    except EndlessError:
        raise
    except Exception:  # noqa: BLE001 - whatever a network raises at a size, it does not take it
        return None
    return [len(value) for value in outputs.values() if value.ndim]


def _contradiction(batch: int, found: int) -> InputError:
    return InputError(f"--batch {batch}", f"{found}, the batch that the network fixes", "Leave --batch out.")


def _find_sizes_fixed_by_tracing(network: Network, traced: Trace, batch: int | None) -> dict[str, int]:
    """Sizes that are open in the signature, and that tracing found to be fixed."""
    found = {}
    for spec, got in zip(network.signature.inputs, read_signature(traced.proto).inputs, strict=True):
        for axis, name in spec.open_axes.items():
            size = (got.dims or ())[axis]
            if isinstance(size, int) and (axis or not batch):
                found[name if axis else BATCH] = size
    return found


class _Runs:
    """The graph and its network, side by side at any size. `session` None: the graph cannot be run here.

    Sizes go by the names of the signature's axes; the first axis of every input is the batch.
    """

    def __init__(self, network: Network, traced: Trace, batch: int | None) -> None:
        self._network, self._traced = network, traced
        copy = onnx.ModelProto()
        copy.CopyFrom(traced.proto)
        try:
            self.session = open_session(decompose(copy), optimise=False)
        except Exception:  # noqa: BLE001 - operators of others; the gate says what is to be said
            self.session = None
        self._base = {BATCH: batch or network.signature.first.fixed_batch or _USUAL_BATCH}
        self._open: dict[str, int] = {}
        for spec, got in zip(network.signature.inputs, read_signature(traced.proto).inputs, strict=True):
            for axis, name in spec.open_axes.items():
                if isinstance((got.dims or ())[axis], str):
                    self._open[name if axis else BATCH] = spec.sizes[axis - 1] if axis else self._base[BATCH]
        self._base |= self._open
        self._shapes: dict[int, list[Shape]] = {}  # of the outputs, by the batch

    def find_fixed(self) -> dict[str, int]:
        """Open axes whose size is fixed in truth, and the size."""
        others = [name for name in self._open if name != BATCH]
        if self._agree_elsewhere(list(self._open)) or not self._agree(self._base):
            return self._find_baked_batch()
        fixed = [] if BATCH not in self._open or self._agree_elsewhere([BATCH]) else [BATCH]
        if others and not self._agree_elsewhere(others):
            fixed += [name for name in others if not self._agree_elsewhere([name])]
            left = [name for name in others if name not in fixed]
            if left and not self._agree_elsewhere(left):
                fixed += left
        return {name: self._open[name] for name in fixed} | self._find_baked_batch()

    def check_batch(self, batch: int | None) -> None:
        """Raise where the user's batch is not the one that a reshape of the graph has baked in."""
        if batch and BATCH not in self._open:
            self._agree(self._base | {BATCH: batch})
            baked = self._shapes.get(batch)
            found = {shape[0] for shape in baked or () if shape} & _leading_constants(self._traced.proto)
            if found and batch not in found and all(shape[:1] != (batch,) for shape in baked or ()):
                raise _contradiction(batch, found.pop())

    def _find_baked_batch(self) -> dict[str, int]:
        """The batch of a reshape, where the first axis of no output follows the input's batch."""
        leading = {tuple(shape[:1] for shape in shapes) for shapes in self._shapes.values()}
        if BATCH not in self._open or len(self._shapes) < 2 or len(leading) > 1:
            return {}
        baked = {axis for axes in leading.pop() for axis in axes} & _leading_constants(self._traced.proto)
        agreed = [size for size in baked if self._agree(self._base | {BATCH: size})]
        return {BATCH: agreed[0]} if agreed else {}

    def _agree_elsewhere(self, names: Sequence[str]) -> bool:
        """Whether graph and network agree at two other sizes of these axes; one where the network takes no more.

        One of them is about half or double: a network of patches and a table takes 32 to 35, and no other size.
        """
        taken, far = 0, not names
        for sizes in self._other_sizes(names):
            answer = self._agree(self._base | sizes)
            if answer is False:
                return False
            if answer:
                taken += 1
                far = far or all(_is_far(sizes[name], self._open[name]) for name in names if name != BATCH)
            if far and taken >= _ENOUGH:
                break
        return far

    def _other_sizes(self, names: Sequence[str]) -> Iterator[_Sizes]:
        """One of each axis at a time; where an axis has fewer, from its first again."""
        choices = [_BATCHES if name == BATCH else _choose_others(self._open[name]) for name in names]
        longest = max(map(len, choices), default=0)
        for sizes in islice(zip(*map(cycle, choices), strict=True), longest):
            yield dict(zip(names, sizes, strict=True))

    def _agree(self, sizes: _Sizes) -> bool | None:
        """None: the network itself does not take these sizes."""
        feed = _feed_at(self._network.signature, sizes)
        try:
            wanted = self._network.outputs(feed, FLOAT32)
        except EndlessError:
            raise
        except Exception:  # noqa: BLE001 - whatever a network raises at a size, it does not take it
            return None
        try:
            values = self.session.run(list(self._traced.output_names), _convert_feed(feed, self.session))
        except Exception:  # noqa: BLE001 - nor does the graph
            return False
        self._shapes[sizes[BATCH]] = [value.shape for value in values]
        return all(map(_is_close, values, wanted.values())) or bool(self._network.find_randomness(feed))


def _choose_others(size: int) -> list[int]:
    """Other sizes, those first that networks are likely to take: strides and windows want multiples.

    In the same order for every size, repeated or not: axes shrink and grow together.
    """
    step = next(step for step in (32, 8, 4, 2, 1) if size % step == 0)
    half = size // 2 // step * step or size // 2
    halves, doubles = ([half], [2 * size]) if size % 2 == 0 else ([half + 1], [2 * size - 1, 2 * size])
    return [s for s in (*halves, size + step, size - step or size + step, *doubles) if s != size]


def _is_far(size: int, usual: int) -> bool:
    return not 2 / 3 < size / usual < 3 / 2


def _feed_at(signature: Signature, sizes: _Sizes) -> Feed:
    return seeded_feeds(_with_samples(signature, sizes), sizes[BATCH])[0]


def _with_samples(signature: Signature, sizes: _Sizes) -> Signature:
    def resize(spec: TensorSpec) -> TensorSpec:
        dims = (spec.dims or ())[1:]
        chosen = (sizes.get(d, s) if isinstance(d, str) else d for d, s in zip(dims, spec.sizes, strict=True))
        return replace(spec, sample=tuple(chosen)) if spec.dims else spec

    return Signature(tuple(map(resize, signature.inputs)), signature.outputs)


def _convert_feed(feed: Feed, session: object) -> Feed:
    """What a graph in float32 takes."""
    wanted = {value.name: value.type for value in session.get_inputs()}  # type: ignore[attr-defined]
    return {k: v.astype(np.float32) if wanted[k] == "tensor(float)" else v for k, v in feed.items() if k in wanted}


def _is_close(value: np.ndarray, wanted: np.ndarray) -> bool:
    if value.shape != wanted.shape:
        return False
    if not is_float(wanted.dtype):
        return bool(np.mean(value != wanted) <= _OTHER_ELEMENTS) if wanted.size else True
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0))
    return bool(np.allclose(value, wanted, rtol=0, atol=CEILING["fp32"] * largest, equal_nan=True))


def _leading_constants(model: onnx.ModelProto) -> set[int]:
    """Sizes above 1 that a reshape of the graph writes into the first axis."""
    nodes, known = model.graph.node, {tensor.name: tensor for tensor in model.graph.initializer}
    constants = ((node, a) for node in nodes if node.op_type == "Constant" for a in node.attribute)
    known |= {node.output[0]: a.t for node, a in constants if a.name == "value"}
    named = (node.input[1] for node in nodes if node.op_type == "Reshape" and len(node.input) > 1)
    shapes = (numpy_helper.to_array(known[name]) for name in named if name in known)
    return {int(shape[0]) for shape in shapes if shape.size and shape[0] > 1}


def _fix(network: Network, traced: Trace, fixed: _Sizes) -> None:
    if not fixed:
        return
    axes = {
        spec.name: {a: fixed[n if a else BATCH] for a, n in spec.open_axes.items() if (n if a else BATCH) in fixed}
        for spec in network.signature.inputs
    }
    fix_sizes(traced.proto, axes)
    network.signature = _with_sizes(network.signature, fixed)


def _with_sizes(signature: Signature, fixed: _Sizes) -> Signature:
    """The signature with these sizes fixed; an image of channels last keeps the names that tell it from others."""

    def narrow(spec: TensorSpec) -> TensorSpec:
        if not spec.dims:
            return spec
        first = fixed.get(BATCH, spec.dims[0]) if isinstance(spec.dims[0], str) else spec.dims[0]
        rest = (spec.dims if spec.channels_last else tuple(fixed.get(str(d), d) for d in spec.dims))[1:]
        return replace(spec, dims=(first, *rest))

    return Signature(tuple(map(narrow, signature.inputs)), signature.outputs)
