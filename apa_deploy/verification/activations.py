"""The operator and kernel gates: each activation of a candidate alone, against the reference's own in float64.

Operator gate: a grid over both tails. Kernel gate: 65,536 numbers - of a half type every finite one, of
float32 as many spread evenly over all bit patterns. Both keep to the derived limit of `operator_gate`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ..graph.decompose import HALF_TYPES
from ..graph.emulate import emulated
from ..graph.external_weights import read_onnx
from ..graph.isolate import isolated
from ..graph.node import DOMAIN
from ..graph.precision import HALF_ELEMENT, NUMPY_TYPE, UNIT_ROUNDOFF
from ..graph.sites import Place, places
from ..graph.values import ranks_and_types
from ..native import LibraryError, ort_library
from ..parity.half import with_float32_ends
from ..parity.operator_gate import GRID, LIMIT, Site, check_site, grid_of
from ..parity.report import ActivationCheck
from ..parity.runners import cpu_session
from ..replace import Found, replace_activations

_COUNT = 1 << 16
# Values of one site at a time; a per-channel site sees the grid alone where it would need more.
_LARGEST = 1 << 24
_ONE = np.zeros(1, np.float32)


def sites_of(path: Path, reference: nn.Module) -> tuple[list[Site], list[str]]:
    """The activations of an ONNX file beside the modules of the same path, and what to tell the user."""
    found = {f.path: f for f in replace_activations(copy.deepcopy(reference)).found}
    known = places(onnx.load(path, load_external_data=False))
    sites = [site for place in known if (site := _site(place, reference, found))]
    return sites, _notices(path.name, set(found), {site.path.split("#")[0] for site in sites}, len(known))


def _site(place: Place, reference: nn.Module, found: Mapping[str, Found]) -> Site | None:
    path = place.path.split("#")[0]
    try:
        original = reference.get_submodule(path)
    except AttributeError:
        return None
    axis = found[path].axis if path in found else place.axis
    return Site(place.path, place.kind, place.source, place.target, original, place.channels, axis)


def _notices(name: str, wanted: set[str], have: set[str], known: int) -> list[str]:
    if wanted and not known:
        return [f"{name} does not say where its activations are (not an apa-export file): judged by outputs alone"]
    missing = sorted(wanted - have)
    return [f"activations of the reference that {name} does not name: {', '.join(missing[:3])}"] if missing else []


def check_operators(
    path: Path, sites: Sequence[Site], precision: str
) -> tuple[list[ActivationCheck], list[ActivationCheck]]:
    """The operator gate and the kernel gate of the sites of an ONNX file."""
    if not sites:
        return [], []
    model = read_onnx(path)
    return (
        _check(model, sites, precision, GRID),
        _check(model, [s for s in sites if s.channels * _COUNT <= _LARGEST], precision, every_number(precision)),
    )


@cache
def every_number(precision: str) -> np.ndarray:
    """float32: all finite values of a half type; of float32, 65,536 spread evenly over the bit patterns."""
    bits = np.arange(_COUNT, dtype=np.uint32)
    if precision == "fp32":
        values = (bits * np.uint32(_COUNT + 1)).view(np.float32)
    else:
        values = bits.astype(np.uint16).view(NUMPY_TYPE[precision]).astype(np.float32)
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def _check(
    model: onnx.ModelProto, sites: Sequence[Site], precision: str, numbers: np.ndarray
) -> list[ActivationCheck]:
    """Each site on `numbers`, in the types that its values have in the file."""
    known = ranks_and_types(model)
    small, inputs, outputs = isolated(model, [(site.source, site.target) for site in sites])
    session = cpu_session(*_runnable(small))
    ranks = [known.get(site.source, (None, 0))[0] or 4 for site in sites]
    # a session wants every input: those of the other sites are one number
    idle = {n: grid_of(s, r, _ONE) for n, s, r in zip(inputs, sites, ranks, strict=True)}
    checks = []
    for site, source, target, rank in zip(sites, inputs, outputs, ranks, strict=True):
        _, element = known.get(site.source, (None, onnx.TensorProto.FLOAT))
        half = next((name for name, half in HALF_ELEMENT.items() if half == element), "fp32")
        z = grid_of(site, rank, numbers).astype(NUMPY_TYPE[half]).astype(np.float32)
        feed = idle | {source: z}
        (y,) = session.run([target], feed)
        limit = LIMIT if half == "fp32" else LIMIT + UNIT_ROUNDOFF[half]
        checks.append(check_site(site, z, y, limit))
    return checks


def _runnable(small: onnx.ModelProto) -> tuple[bytes, Path | None]:
    """Fused nodes in our library's kernels where it is built; the rest of a half graph by emulation."""
    fused = any(node.domain == DOMAIN for node in small.graph.node)
    halves = any(v.type.tensor_type.elem_type in HALF_TYPES for v in small.graph.input)
    try:
        library = ort_library() if fused else None
    except LibraryError:
        library = None
    if not halves:
        return small.SerializeToString(), library
    return (with_float32_ends(small) if library else emulated(small)).SerializeToString(), library


def check_modules(candidate: nn.Module, reference: nn.Module) -> tuple[list[ActivationCheck], list[str]]:
    """The operator gate of a torch module: its activations in float32, by the paths of the reference's."""
    theirs = dict(candidate.named_modules())
    checks, missing = [], []
    for found in replace_activations(copy.deepcopy(reference)).found:
        if found.path not in theirs:
            missing.append(found.path)
            continue
        channels = max(len(found.lambda_), len(found.kappa))
        site = Site(found.path, found.kind, "", "", reference.get_submodule(found.path), channels, found.axis)
        z = grid_of(site, 4)
        with torch.inference_mode():
            y = theirs[found.path](torch.from_numpy(z)).numpy()
        checks.append(check_site(site, z, y, LIMIT))
    said = (
        [f"activations of the reference that the module does not have: {', '.join(missing[:3])}"] if missing else []
    )
    return checks, said
