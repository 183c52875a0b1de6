"""What each piece of an engine adds, from the values that its runtime shows: nothing is fed into the middle.

An engine takes no inputs inside, so here the reference follows the engine: the float64 module gets the values
that the engine showed at one activation, and what it makes of them at the next is what the engine should have.
A value that fusion swallowed is no loss: its piece then covers what was fused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..parity.inputs import Feed
from ..parity.operator_gate import Site
from ..parity.runners import cast_floats
from ..report.record import ActivationError
from .layers import BEFORE, piece_error, ranked


def added_by_replay(
    seen: Mapping[str, np.ndarray],
    reference: nn.Module,
    sites: Sequence[Site],
    feed: Feed,
    precision: str,
    label: str,
) -> list[ActivationError]:
    """What each piece adds, ranked.

    Args:
        seen: values by the names of the ONNX graph, as the runtime computed them from `feed`.
        sites: where the activations stand in that graph.
    """
    double, errors = copy.deepcopy(reference).double(), list[ActivationError]()
    for path in {site.path.split("#")[0] for site in sites}:
        uses = [site for site in sites if site.path.split("#")[0] == path]
        follower = _Follower(uses, seen, precision, label, errors)
        part = double.get_submodule(path)
        part.register_forward_pre_hook(follower.arrive)
        part.register_forward_hook(follower.leave)
    with torch.inference_mode():
        double(*(cast_floats(array, torch.float64) for array in feed.values()))
    return ranked(errors)


class _Follower:
    """Compares at one activation, and goes on with what the engine showed."""

    def __init__(
        self,
        uses: Sequence[Site],
        seen: Mapping[str, np.ndarray],
        precision: str,
        label: str,
        errors: list[ActivationError],
    ) -> None:
        self._uses, self._seen, self._errors = iter(uses), seen, errors
        self._precision, self._label = precision, label

    def arrive(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        self._site = next(self._uses)
        return (self._followed(self._site.source, inputs[0], BEFORE),)

    def leave(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        shown = self._site.source in self._seen
        return self._followed(self._site.target, output, self._site.kind if shown else f"{self._site.kind}, fused")

    def _followed(self, name: str, right: Tensor, kind: str) -> Tensor:
        if name not in self._seen:
            return right
        value = self._seen[name].astype(np.float64)
        error = piece_error(self._label, self._site.path, right.numpy(), value, None, self._precision, kind)
        self._errors.append(error)
        return torch.from_numpy(value) if value.shape == tuple(right.shape) else right
