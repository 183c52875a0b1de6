"""Which activation brought the error in: compare what enters and leaves each with the float64 module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from .inputs import Feed
from .operator_gate import Site
from .report import Blame
from .runners import cast_floats, cpu_session

# An activation is at fault when it makes the error at least this much larger, and larger than float32
# rounding over a deep network explains (the golden networks stay below 3e-6 anywhere inside).
_GROWTH = 4.0
_NOTICEABLE = 1e-5


def first_fault(
    path: Path,
    truth: nn.Module,
    sites: Sequence[Site],
    feed: Feed,
    library: Path | None,
    noticeable: float = _NOTICEABLE,
) -> Blame | None:
    """The first site, in the order of the graph, whose output is worse than its input explains."""
    reference = reference_values(truth, sites, feed)
    exported = _exported_values(path, sites, feed, library)
    for site in sites:
        entering = _error(exported[site.source], reference[site.path][0])
        leaving = _error(exported[site.target], reference[site.path][1])
        if leaving > noticeable and leaving > _GROWTH * entering:
            return Blame(path=site.path, entering=entering, leaving=leaving)
    return None


def reference_values(
    truth: nn.Module, sites: Sequence[Site], feed: Feed
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Site name -> (input, output) in float64; the n-th use of a shared module is `path#n`."""
    calls: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    paths = {site.path.split("#")[0] for site in sites}
    hooks = [truth.get_submodule(p).register_forward_hook(_recorder(calls[p])) for p in paths]
    with torch.inference_mode():
        truth(*(cast_floats(array, torch.float64) for array in feed.values()))
    for hook in hooks:
        hook.remove()
    return {site.path: calls[_path(site)][_use(site)] for site in sites}


def _recorder(into: list[tuple[np.ndarray, np.ndarray]]):  # type: ignore[no-untyped-def]
    def record(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        into.append((inputs[0].numpy().copy(), output.numpy().copy()))

    return record


def _path(site: Site) -> str:
    return site.path.split("#")[0]


def _use(site: Site) -> int:
    return int(site.path.partition("#")[2] or 1) - 1


def _exported_values(path: Path, sites: Sequence[Site], feed: Feed, library: Path | None) -> dict[str, np.ndarray]:
    model = onnx.load(path, load_external_data=False)
    wanted = list(dict.fromkeys(name for site in sites for name in (site.source, site.target)))
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in known)
    with NamedTemporaryFile(dir=path.parent, suffix=".onnx") as file:  # beside its weights, if they lie apart
        file.write(model.SerializeToString())
        file.flush()
        session = cpu_session(Path(file.name), library)
    return dict(zip(wanted, session.run(wanted, feed), strict=True))


def _error(value: np.ndarray, reference: np.ndarray) -> float:
    if value.shape != reference.shape or not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value - reference).max() / max(float(np.abs(reference).max()), 1e-30))
