"""The operator and kernel gates: each activation of a candidate alone, against the reference's own in float64.

Operator gate: a grid over both tails. Kernel gate: 65,536 numbers - of a half type every finite one, of
float32 as many spread evenly over all bit patterns. Both keep to the limit that `parity.limits` derives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from ..graph.node import DOMAIN
from ..graph.precision import NUMPY_TYPE
from ..graph.read import read_graph
from ..graph.sites import ActivationSite, find_sites
from ..native import LibraryError, ort_library
from ..network import HALVES, Network
from ..parity.operator_gate import check_activations, check_site, grid_of
from ..records.parity import ActivationCheck

_COUNT = 1 << 16
# Values of one site at a time; a per-channel site sees the grid alone where it would need more.
_LARGEST = 1 << 24


def match_sites(path: Path, reference: Network) -> tuple[list[ActivationSite], list[str]]:
    """The activations of an ONNX file that the reference has too, and what to tell the user."""
    wanted = {site.path: site for site in reference.learned}
    known = find_sites(read_graph(path))
    sites = [site for one in known if (site := _match(one, reference, wanted))]
    return sites, _notices(path.name, set(wanted), {site.path for site in sites}, len(known))


def _match(site: ActivationSite, reference: Network, wanted: Mapping[str, ActivationSite]) -> ActivationSite | None:
    """A site of the file with the reference's own parameters; a graph may have a node whose name ends in "#2"."""
    if reference.curve(site.name):
        site = replace(site, path=site.name, use=1)
    elif not reference.curve(site.path):
        return None
    return replace(site, parameters=wanted[site.path].parameters) if site.path in wanted else site


def _notices(name: str, wanted: set[str], have: set[str], known: int) -> list[str]:
    if wanted and not known:
        return [f"{name} does not say where its activations are (not an apa-export file): judged by outputs alone"]
    missing = sorted(wanted - have)
    return [f"activations of the reference that {name} does not name: {', '.join(missing[:3])}"] if missing else []


def check_operators(
    path: Path, sites: Sequence[ActivationSite], reference: Network, precision: str
) -> tuple[list[ActivationCheck], list[ActivationCheck]]:
    """The operator gate and the kernel gate of the sites of an ONNX file; fused nodes in our library."""
    if not sites:
        return [], []
    model = read_graph(path, weights=True)
    fused = any(node.domain == DOMAIN for node in model.graph.node)
    try:
        library = ort_library() if fused else None
    except LibraryError:
        library = None
    few = [site for site in sites if site.channels * _COUNT <= _LARGEST]
    return (
        check_activations(model, sites, reference, library),
        check_activations(model, few, reference, library, every_number(precision)),
    )


@cache
def every_number(precision: str) -> np.ndarray:
    """float32: all finite values of a half type; else 65,536 of float32, spread evenly over the bit patterns."""
    bits = np.arange(_COUNT, dtype=np.uint32)
    if precision in HALVES:
        values = bits.astype(np.uint16).view(NUMPY_TYPE[precision]).astype(np.float32)
    else:
        values = (bits * np.uint32(_COUNT + 1)).view(np.float32)
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def check_modules(candidate: Network, reference: Network) -> tuple[list[ActivationCheck], list[str]]:
    """The operator gate of a torch module: its activations in float32, by the paths of the reference's."""
    import torch

    theirs = dict(candidate.module.named_modules())
    checks, missing = [], []
    for site in reference.learned:
        if site.path not in theirs:
            missing.append(site.path)
            continue
        z = grid_of(site, 4)
        with torch.inference_mode():
            y = theirs[site.path](torch.from_numpy(z)).numpy()
        checks.append(check_site(site, reference, z, y))
    text = f"activations of the reference that the module does not have: {', '.join(missing[:3])}"
    return checks, [text] if missing else []
