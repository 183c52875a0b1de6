"""Upstream's networks, rebuilt from a state dict: `network_of(state, ...)`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

from torch import nn

from ..errors import InputError
from .infer import Inferred, State, inferred
from .resnet import ResNet
from .spec import Spec

M = TypeVar("M", bound=nn.Module)

__all__ = ["KeysError", "Spec", "filled", "network_of"]


class KeysError(InputError):
    """A state dict does not fit its network. `missing`, `unexpected`, `misshaped`: keys."""

    def __init__(self, name: str, missing: list[str], unexpected: list[str], misshaped: list[str]) -> None:
        nearest = {key: _nearest(key, missing) for key in unexpected}
        parts = [
            f"missing: {_listed(missing)}" if missing else "",
            f"unexpected: {_listed(_with_match(k, nearest[k]) for k in unexpected)}" if unexpected else "",
            f"of another shape: {_listed(misshaped)}" if misshaped else "",
        ]
        do = "Give the network's own constructor with --model package.module:factory, or check the file."
        super().__init__("; ".join(part for part in parts if part), f"the keys of {name}", do)
        self.missing, self.unexpected, self.misshaped = missing, unexpected, misshaped


def network_of(
    state: State, *, classif_norm: str | None, given_norm: bool, floor: str | None
) -> tuple[ResNet, Inferred]:
    """The network of `state`, filled, in eval mode.

    Raises:
        ArchitectureError: the keys fit no known network.
        KeysError: keys are missing, unexpected or of another shape.
    """
    found = inferred(state, classif_norm, floor, given_norm)
    return filled(ResNet(found.spec), state, found.spec.name), found


def filled(module: M, state: State, name: str) -> M:
    """`module` in eval mode with the values of `state`, every key used and none missing.

    Raises:
        KeysError: see `network_of`.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    misshaped = [
        f"{key} {tuple(state[key].shape)}, wanted {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or unexpected or misshaped:
        raise KeysError(name, missing, unexpected, misshaped)
    module.load_state_dict(state, strict=False)
    return module.eval()


def _nearest(key: str, names: list[str]) -> str:
    return next(iter(difflib.get_close_matches(key, names, n=1, cutoff=0.6)), "")


def _with_match(key: str, match: str) -> str:
    return f"{key} (nearest: {match})" if match else key


def _listed(keys: Iterable[str], most: int = 8) -> str:
    every = list(keys)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
