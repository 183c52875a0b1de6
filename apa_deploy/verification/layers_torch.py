"""Pieces of a network, each given the reference's values; also what its baseline makes of them in a type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph.sites import ActivationSite
from ..network import FLOAT32, TRUTH, Exchange, Network
from ..report.record import ActivationError
from ..tensors.signature import Feed
from .layers import AFTER, Wanted, activation_error, compute_wanted, piece_error, rank_errors


class Pieces(Exchange):
    """Gives each activation the reference's input, and the layers behind it the reference's output.

    `arriving`, `leaving`: what the network itself made, by the name of the use; `outputs`: in order.
    """

    def __init__(self, sites: Sequence[ActivationSite], wanted: Mapping[str, Wanted]) -> None:
        super().__init__({site.path for site in sites})
        self._wanted = wanted
        self.arriving: Feed = {}
        self.leaving: Feed = {}
        self.outputs: list[np.ndarray] = []

    def arrive(self, name: str, value: np.ndarray) -> np.ndarray:
        self.arriving[name] = value.copy()
        return self._wanted[name].entering

    def leave(self, name: str, value: np.ndarray) -> np.ndarray:
        self.leaving[name] = value.copy()
        return self._wanted[name].leaving


def run_pieces(
    network: Network,
    sites: Sequence[ActivationSite],
    wanted: Mapping[str, Wanted],
    feed: Feed,
    precision: str,
) -> Pieces:
    """All pieces of `network`, fed by `wanted`; "fp32" for its float32, else a dtype of `Network.outputs`."""
    pieces = Pieces(sites, wanted)
    dtype = FLOAT32 if precision == "fp32" else precision
    pieces.outputs = list(network.outputs(feed, dtype, pieces).values())
    return pieces


def measure_torch_layers(
    candidate: Network, reference: Network, feed: Feed, names: Sequence[str], label: str
) -> list[ActivationError]:
    """What each piece of `candidate` adds in float32, ranked; pieces are those of `reference`."""
    modules = dict(candidate.module.named_modules())
    sites = [site for site in reference.activations if site.path in modules]
    wanted = compute_wanted(reference, sites, feed)
    mine = run_pieces(candidate, sites, wanted, feed, "fp32")
    usual = run_pieces(reference, sites, wanted, feed, "fp32")
    errors = []
    for site in sites:
        z = wanted[site.name].entering
        errors.append(
            piece_error(label, site.name, z, mine.arriving[site.name], usual.arriving.get(site.name), "fp32")
        )
        measured = mine.leaving[site.name]
        errors.append(activation_error(label, site, reference, z.astype(np.float32), measured, "fp32"))
    right = run_pieces(reference, sites, wanted, feed, TRUTH).outputs
    for name, wants, has, theirs in zip(names, right, mine.outputs, usual.outputs, strict=True):
        errors.append(piece_error(label, name, wants, has, theirs, "fp32", AFTER))
    return rank_errors(errors)
