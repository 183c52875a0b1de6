"""Upstream's networks, rebuilt from a state dict: `network_of(state, ...)`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..modules import freeze
from .infer import Inferred, State, infer_spec
from .resnet import ResNet
from .spec import Spec

M = TypeVar("M", bound=nn.Module)

__all__ = ["KeysError", "Spec", "fill_module", "network_of"]


_GIVE_MODEL = "Give the network's own constructor with --model package.module:factory, or check the file."


class KeysError(InputError):
    """A state dict does not fit its network. `missing`, `unexpected`, `misshaped`: keys."""

    def __init__(
        self, name: str, missing: list[str], unexpected: list[str], misshaped: list[str], do: str = _GIVE_MODEL
    ) -> None:
        nearest = {key: _nearest(key, missing) for key in unexpected[:8]}
        parts = [
            f"missing: {_list_keys(missing)}" if missing else "",
            f"unexpected: {_list_keys(_with_match(k, nearest.get(k, '')) for k in unexpected)}"
            if unexpected
            else "",
            f"of another shape: {_list_keys(misshaped)}" if misshaped else "",
        ]
        super().__init__("; ".join(part for part in parts if part), f"the keys of {name}", do)
        self.missing, self.unexpected, self.misshaped = missing, unexpected, misshaped


def network_of(
    state: State, *, classif_norm: str | None, given_norm: bool, floor: str | None
) -> tuple[ResNet, Inferred]:
    """The network of `state`, filled, in eval mode; it takes the tensors of `state` as its own.

    Raises:
        ArchitectureError: the keys fit no known network.
        KeysError: keys are missing, unexpected or of another shape.
    """
    found = infer_spec(state, classif_norm, floor, given_norm)
    with torch.device("meta"):  # shapes come from a stranger's file: allocate nothing by them
        network = ResNet(found.spec)
    return fill_module(network, state, found.spec.name, assign=True), found


def fill_module(module: M, state: State, name: str, assign: bool = False, do: str = _GIVE_MODEL) -> M:
    """`module` in eval mode with the values of `state`, every key used and none missing.

    Args:
        assign: take the tensors of `state` instead of copying their values.
        do: the advice where they do not fit.

    Raises:
        KeysError: see `network_of`.
    """
    own = {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    counters = {key: torch.zeros((), dtype=torch.long) for key in own if key.endswith("num_batches_tracked")}
    # averages of the whole state dict make floats of the counters, which nothing here reads
    state = {
        **counters,
        **{k: v.long() if k in counters and v.is_floating_point() else v for k, v in state.items()},
    }
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    unfit = [
        f"{key} {_describe_tensor(state[key])}, wanted {_describe_tensor(own[key])}"
        for key in own
        if key in state and not _fits(state[key], own[key])
    ]
    if missing or unexpected or unfit:
        raise KeysError(name, missing, unexpected, unfit, do)
    module.load_state_dict(state, assign=assign, strict=False)  # extra states apart, every key was looked at
    freeze(module)
    return module


def _fits(value: Tensor, wanted: Tensor) -> bool:
    return value.shape == wanted.shape and value.is_floating_point() == wanted.is_floating_point()


def _describe_tensor(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _nearest(key: str, names: list[str]) -> str:
    return next(iter(difflib.get_close_matches(key[:120], names, n=1, cutoff=0.6)), "")


def _with_match(key: str, match: str) -> str:
    return f"{key} (nearest: {match})" if match else key


def _list_keys(keys: Iterable[str], most: int = 8) -> str:
    every = [key[:120] for key in keys]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")
