"""Which activation brought the error in: compare what enters and leaves each with the float64 network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import onnx

from ..graph.read import read_graph
from ..graph.sites import ActivationSite
from ..network import Network
from ..records.parity import Blame
from ..runtimes.ort_session import open_session
from ..tensors.signature import Feed
from .limits import noticeable_error

# An activation is at fault when it makes the error at least this much larger, and larger than rounding over a deep
# network explains.
_GROWTH = 4.0


def find_culprit(
    path: Path,
    network: Network,
    sites: Sequence[ActivationSite],
    feeds: Sequence[Feed],
    precision: str,
    library: Path | None,
) -> Blame | None:
    """The first site, in the order of the graph, whose output is worse than its input explains, on the first feed
    that shows one."""
    noticeable = noticeable_error(precision)
    for feed in feeds:
        reference = network.intermediate(feed, {site.path for site in sites})
        exported = _run_exported(path, sites, feed, library)
        for site in sites:
            if site.name not in reference:
                continue
            entering = _error(exported[site.source], reference[site.name][0])
            leaving = _error(exported[site.target], reference[site.name][1])
            if leaving > noticeable and leaving > _GROWTH * entering:
                return Blame(path=site.name, entering=entering, leaving=leaving)
    return None


def _run_exported(path: Path, sites: Sequence[ActivationSite], feed: Feed, library: Path | None) -> Feed:
    model = read_graph(path)
    wanted = list(dict.fromkeys(name for site in sites for name in (site.source, site.target)))
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in known)
    with NamedTemporaryFile(dir=path.parent, suffix=".onnx") as file:  # beside its weights, if they lie apart
        file.write(model.SerializeToString())
        file.flush()
        session = open_session(Path(file.name), library=library)
    return dict(zip(wanted, session.run(wanted, feed), strict=True))


def _error(value: np.ndarray, reference: np.ndarray) -> float:
    if value.shape != reference.shape or not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value - reference).max() / max(float(np.abs(reference).max()), 1e-30))
