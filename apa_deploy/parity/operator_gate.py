"""The operator gate: each activation alone, as it stands in an exported file, against its float64 original.

A wrong floor moves an activation by 2.7e-5 and the logits by no more than float32 rounding does, so only this gate
can see it. `limits` derives what it allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..graph.decompose import HALF_TYPES
from ..graph.emulate import emulate_halves
from ..graph.isolate import isolate_sites
from ..graph.precision import HALF_ELEMENT, NUMPY_TYPE, UNIT_ROUNDOFF
from ..graph.sites import ActivationSite
from ..graph.values import ranks_and_types
from ..maths import aglu_float64, apa_float64
from ..network import Network
from ..records.parity import ActivationCheck, GainCheck
from ..runtimes.ort_session import open_session
from .limits import operator_limit

# Dense where the curve bends, sparse far into both tails.
GRID = np.concatenate([np.linspace(-12, 12, 1201), np.linspace(-90, 90, 181)]).astype(np.float32)
_ONE = np.zeros(1, np.float32)
_APART = 0.02  # of two z
_STEEP = 30.0  # |z| beyond which the curve is a line or 0
_STEP, _NORMAL = 1e-6, 2.0**-14  # of a derivative, relative; the least number that fp16 rounds by its size
_SPELLED = 2.0**-9  # four roundings of fp16
_RANK = 4  # where the graph does not say: an image's


def check_activations(
    model: onnx.ModelProto,
    sites: Sequence[ActivationSite],
    network: Network,
    library: Path | None = None,
    numbers: np.ndarray = GRID,
) -> list[ActivationCheck]:
    """Every site of `model` on `numbers`, rounded to the type that its values have there, in one session.

    With `library` its kernels run in the type itself; without, every value of a half site is rounded to the type.
    A site of another type than float32, float16 and bfloat16 is not judged.
    """
    known = ranks_and_types(model)
    types = {site.name: _type_of(known.get(site.source, (None, TensorProto.FLOAT))[1]) for site in sites}
    sites = [site for site in sites if types[site.name]]
    if not sites:
        return []
    small, inputs, outputs = isolate_sites(model, [(site.source, site.target) for site in sites])
    if any(value.type.tensor_type.elem_type in HALF_TYPES for value in small.graph.input):
        small = with_float32_ends(small) if library else emulate_halves(small)
    session = open_session(small, library=library)
    ranks = [known.get(site.source, (None, 0))[0] or _RANK for site in sites]
    # a session wants every input: those of the other sites are one number
    idle = {name: grid_of(site, rank, _ONE) for name, site, rank in zip(inputs, sites, ranks, strict=True)}
    checks = []
    for site, source, target, rank in zip(sites, inputs, outputs, ranks, strict=True):
        precision = types[site.name]
        z = grid_of(site, rank, numbers).astype(NUMPY_TYPE[precision]).astype(np.float32)
        (y,) = session.run([target], idle | {source: z})
        checks.append(check_site(site, network, z, y, precision))
    return checks


def _type_of(element: int) -> str:
    if element == TensorProto.FLOAT:
        return "fp32"
    return next((name for name, half in HALF_ELEMENT.items() if half == element), "")


def grid_of(site: ActivationSite, rank: int, values: np.ndarray = GRID) -> np.ndarray:
    """z of shape (len(values), 1, ..., C, ..., 1), or (C, len(values), 1, ...) where the channels come first."""
    if site.channels > 1:
        rank = max(rank, 2)  # a vector of channels: one row for each number
    shape, numbers = [1] * rank, [1] * rank
    numbers[int(_leads(site, rank))] = shape[int(_leads(site, rank))] = len(values)
    if site.channels > 1:
        shape[site.parameters.axis] = site.channels
    return np.broadcast_to(values.reshape(numbers), shape).copy()


def _leads(site: ActivationSite, rank: int) -> bool:
    """Whether the channels lie on the first axis, so that the numbers need the second."""
    return site.channels > 1 and site.parameters.axis % rank == 0


def check_site(
    site: ActivationSite, network: Network, z: np.ndarray, y: np.ndarray, precision: str = "fp32"
) -> ActivationCheck:
    """The site's values `y` on the grid `z`, against the network's own curve in float64."""
    curve = network.curve(site.path)
    assert curve is not None  # sites are made of the network's own paths
    wanted, limit = curve(z), operator_limit(precision)
    with np.errstate(invalid="ignore"):
        error = np.abs(y - wanted) / np.maximum(1, np.abs(wanted))
    worst = float(np.where(np.isfinite(error), error, np.inf).max())
    gains = []
    if precision in HALF_ELEMENT and worst <= limit:
        axis = site.parameters.axis % z.ndim
        if _leads(site, z.ndim):
            (z, y, wanted), axis = (np.swapaxes(one, 0, 1) for one in (z, y, wanted)), 1
        gains = _parameters_off(site, axis, z, y, wanted, precision)
    passed = worst <= limit and all(gain.passed for gain in gains)
    return ActivationCheck(path=site.name, kind=site.kind, max_error=worst, limit=limit, gains=gains, passed=passed)


def _parameters_off(
    site: ActivationSite, axis: int, z: np.ndarray, y: np.ndarray, wanted: np.ndarray, precision: str
) -> list[GainCheck]:
    """By how much of itself each parameter seems to be off, of the channels the worst.

    The derivative d of the curve by ln(lambda) or ln(kappa) is a direction that rounding does not know: of errors
    spread evenly within unit roundoff * |y|, the sum along d is sub-Gaussian with the variance of that; six
    deviations and what the operator gate allows float32 are its limit, and the parameter's own rounding: where the
    curve is spelled out in fp16, of the several constants that are made of it.
    """
    curve = aglu_float64 if site.kind == "AGLU" else apa_float64
    numbers = z.reshape(len(z), -1)[:, 0].astype(np.float64)
    _, first = np.unique(np.rint(numbers / _APART), return_index=True)  # nearer ones are rounded alike
    first = first[np.abs(numbers[first]) <= _STEEP]
    distinct = 1 + (np.diff(np.sort(y[first], axis=0), axis=0) != 0).sum(0)  # of a flat curve all are rounded alike
    together = 6 * np.sqrt(len(first) / distinct)
    z, error, wanted = z[first].astype(np.float64), (y - wanted)[first], wanted[first]
    shape = [1] * z.ndim
    shape[axis] = site.channels
    values = [
        np.reshape(np.asarray(one, np.float64), shape) for one in (site.parameters.lambda_, site.parameters.kappa)
    ]
    unit, found = UNIT_ROUNDOFF[precision], []
    rounding = unit * np.maximum(np.abs(wanted), _NORMAL) / np.sqrt(3)
    for i, what in enumerate(("lambda", "kappa")):
        nudged = [one * (1 + _STEP * (k == i)) for k, one in enumerate(values)]
        along = (curve(z, *nudged) - curve(z, *values)) / _STEP
        length = np.maximum((along * along).sum(0), _NORMAL**2)
        off = (error * along).sum(0) / length
        inside = operator_limit("fp32") * (np.maximum(1, np.abs(wanted)) * np.abs(along)).sum(0)
        most = max(unit, _SPELLED) + (together * np.sqrt(((rounding * along) ** 2).sum(0)) + inside) / length
        worst = np.unravel_index(int((np.abs(off) / most).argmax()), off.shape)
        high = float(most[worst])
        found.append(GainCheck(what=what, error=float(off[worst]), low=-high, high=high))
    return found


def with_float32_ends(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself, its half inputs and outputs behind Casts: numpy has no bf16 to feed."""
    graph, before, after = model.graph, [], []
    for value in (*graph.input, *graph.output):
        element = value.type.tensor_type.elem_type
        if element not in HALF_TYPES:
            continue
        outer, inner = value.name, f"{value.name}/half"
        for node in graph.node:
            node.input[:] = [inner if name == outer else name for name in node.input]
            node.output[:] = [inner if name == outer else name for name in node.output]
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        if value in graph.input:
            before.append(helper.make_node("Cast", [outer], [inner], to=element))
        else:
            after.append(helper.make_node("Cast", [inner], [outer], to=TensorProto.FLOAT))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
