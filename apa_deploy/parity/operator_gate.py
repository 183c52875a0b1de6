"""The operator gate: each activation alone, as it stands in the exported file, against its float64 original.

A wrong floor moves an activation by 2.7e-5 and the logits by no more than float32 rounding does, so only
this gate can see it. The limit, relative to max(1, |y|), is 2e-6:

    -ln APA = h(t), t = ln(lambda) - kappa*z. Rounding t costs |t| * 2^-24, which the gate multiplies by
    APA * dh/dt <= 1/e for small lambda, where |t| <= 19 at lambda = 1e-8 as the gate passes 1/e:
    4.2e-7. The cubic for log1p is right to 1.65e-7 of h, times APA * h <= 1/e: 0.6e-7. Rounding the
    stored lambda and kappa: 2 * 2^-24 * |kappa*z| * APA * dh/dt: 2.4e-7. A few further roundings: 2e-7.
    Sum 0.9e-6; doubled for runtimes whose Exp is good to 2 ulp only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ..graph.external_weights import read_onnx
from ..graph.isolate import isolated
from ..graph.values import ranks_and_types
from .report import ActivationCheck
from .runners import cpu_session

LIMIT = 2e-6
# Dense where the curve bends, sparse far into both tails.
GRID = np.concatenate([np.linspace(-12, 12, 1201), np.linspace(-90, 90, 181)]).astype(np.float32)


@dataclass(frozen=True)
class Site:
    """Where an activation stands: its name, kind, the values around it, and its original torch module.

    `channels`: how many values of lambda and kappa it has along `axis`.
    """

    path: str
    kind: str
    source: str
    target: str
    original: nn.Module
    channels: int = 1
    axis: int = 1


def check_activations(path: Path, sites: Sequence[Site], library: Path | None = None) -> list[ActivationCheck]:
    """Every float32 site of the model file on a grid of z from -90 to 90, in one ONNX Runtime session."""
    if not sites:
        return []
    model = read_onnx(path)
    ranks = ranks_and_types(model)
    sites = [site for site in sites if ranks[site.source][1] == onnx.TensorProto.FLOAT]
    if not sites:
        return []
    small, inputs, outputs = isolated(model, [(site.source, site.target) for site in sites])
    session = cpu_session(small.SerializeToString(), library)
    grids = [grid_of(site, ranks[site.source][0] or 4) for site in sites]
    values = session.run(outputs, dict(zip(inputs, grids, strict=True)))
    return [check_site(site, z, y, LIMIT) for site, z, y in zip(sites, grids, values, strict=True)]


def grid_of(site: Site, rank: int, values: np.ndarray = GRID) -> np.ndarray:
    """z of shape (len(values), 1, ..., C, ..., 1); a rank below 2 leaves no room for channels."""
    shape = [1] * rank
    if site.channels > 1:
        shape[site.axis] = site.channels
    return np.broadcast_to(values.reshape(-1, *[1] * (rank - 1)), (len(values), *shape[1:])).copy()


def check_site(site: Site, z: np.ndarray, y: np.ndarray, limit: float) -> ActivationCheck:
    """The site's values `y` on the grid `z`, against its float64 original."""
    with torch.inference_mode():
        wanted = site.original(torch.from_numpy(z).double()).numpy()
    with np.errstate(invalid="ignore"):
        error = np.abs(y - wanted) / np.maximum(1, np.abs(wanted))
    worst = float(np.where(np.isfinite(error), error, np.inf).max())
    return ActivationCheck(path=site.path, kind=site.kind, max_error=worst, limit=limit, passed=worst <= limit)
