"""What each piece of an engine adds, from the values that its runtime shows: nothing is fed into the middle.

An engine takes no inputs inside, so here the reference follows the engine: the float64 module gets the values
that the engine showed at one activation, and what it makes of them at the next is what the engine should have.
A value that fusion swallowed is no loss: its piece then covers what was fused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph.sites import ActivationSite
from ..network import TRUTH, Exchange, Network
from ..report.record import ActivationError
from ..tensors.signature import Feed
from .layers import BEFORE, piece_error, rank_errors


def measure_replayed_layers(
    seen: Mapping[str, np.ndarray],
    reference: Network,
    sites: Sequence[ActivationSite],
    feed: Feed,
    precision: str,
    label: str,
) -> list[ActivationError]:
    """What each piece adds, ranked.

    Args:
        seen: values by the names of the ONNX graph, as the runtime computed them from `feed`.
        sites: where the activations stand in that graph.
    """
    follower = _Follower(sites, seen, precision, label)
    reference.outputs(feed, TRUTH, follower)
    return rank_errors(follower.errors)


class _Follower(Exchange):
    """Compares at each activation, and goes on with what the engine showed."""

    def __init__(
        self, sites: Sequence[ActivationSite], seen: Mapping[str, np.ndarray], precision: str, label: str
    ) -> None:
        super().__init__({site.path for site in sites})
        self._sites = {site.name: site for site in sites}
        self._seen, self._precision, self._label = seen, precision, label
        self.errors: list[ActivationError] = []

    def arrive(self, name: str, value: np.ndarray) -> np.ndarray:
        site = self._sites.get(name)
        return self._follow(site.source, name, value, BEFORE) if site else value

    def leave(self, name: str, value: np.ndarray) -> np.ndarray:
        site = self._sites.get(name)
        if site is None:
            return value
        kind = site.kind if site.source in self._seen else f"{site.kind}, fused"
        return self._follow(site.target, name, value, kind)

    def _follow(self, value_name: str, place: str, right: np.ndarray, kind: str) -> np.ndarray:
        if value_name not in self._seen:
            return right
        value = self._seen[value_name].astype(np.float64)
        self.errors.append(piece_error(self._label, place, right, value, None, self._precision, kind))
        return value if value.shape == right.shape else right
