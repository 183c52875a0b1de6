"""Pieces of a torch module, each given the reference's values by hooks; also what torch makes of them in a type."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..parity.inputs import Feed
from ..parity.operator_gate import Site
from ..parity.runners import cast_floats
from ..parity.storage import TORCH_TYPE, rounded, stored_in
from ..replace import replace_activations
from ..report.record import ActivationError
from .layers import AFTER, Wanted, activation_error, piece_error, ranked, wanted_values


@dataclass(frozen=True)
class Made:
    """What a module makes of the reference's values: at each site what arrives and what leaves, and its outputs."""

    arriving: dict[str, np.ndarray]
    leaving: dict[str, np.ndarray]
    outputs: list[np.ndarray]


def added_by_torch(
    candidate: nn.Module, reference: nn.Module, feed: Feed, names: Sequence[str], label: str
) -> list[ActivationError]:
    """What each piece of `candidate` adds in float32, ranked; pieces are those of `reference`."""
    double, modules = copy.deepcopy(reference).double(), dict(candidate.named_modules())
    sites = [site for site in module_sites(reference) if site.path in modules]
    wanted = wanted_values(double, sites, feed)
    mine = pieces_of(candidate, sites, wanted, feed)
    torchs = torch_pieces(reference, sites, wanted, feed, "fp32")
    errors = []
    for site in sites:
        z = wanted[site.path].entering
        errors.append(
            piece_error(label, site.path, z, mine.arriving[site.path], torchs.arriving[site.path], "fp32")
        )
        errors.append(activation_error(label, site, z.astype(np.float32), mine.leaving[site.path], "fp32"))
    right = pieces_of(double, sites, wanted, feed, torch.float64).outputs
    for name, wants, has, usual in zip(names, right, mine.outputs, torchs.outputs, strict=True):
        errors.append(piece_error(label, name, wants, has, usual, "fp32", AFTER))
    return ranked(errors)


def module_sites(reference: nn.Module) -> list[Site]:
    """The activations of a torch module, in its order; the graph's names are empty."""
    found = replace_activations(copy.deepcopy(reference)).found
    return [
        Site(f.path, f.kind, "", "", reference.get_submodule(f.path), max(len(f.lambda_), len(f.kappa)), f.axis)
        for f in found
    ]


def torch_pieces(
    reference: nn.Module, sites: Sequence[Site], wanted: Mapping[str, Wanted], feed: Feed, precision: str
) -> Made:
    """What torch makes of each piece in float32, or float64 that stores its values in a half type."""
    if precision == "fp32":
        return pieces_of(reference, sites, wanted, feed)
    stored = stored_in(reference, precision, [site.path.split("#")[0] for site in sites])
    return pieces_of(stored, sites, wanted, feed, torch.float64, TORCH_TYPE[precision])


def pieces_of(
    module: nn.Module,
    sites: Sequence[Site],
    wanted: Mapping[str, Wanted],
    feed: Feed,
    dtype: torch.dtype = torch.float32,
    element: torch.dtype | None = None,
) -> Made:
    """All pieces of `module`, fed by `wanted`, in `dtype`; `element`: the values are rounded to it first."""

    def given(value: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(value)
        return (rounded(tensor, element) if element else tensor).to(dtype)

    made = Made({}, {}, [])
    with _fed(module, sites, wanted, given, made), torch.inference_mode():
        outputs = module(*(cast_floats(array, dtype) for array in feed.values()))
    tensors = (outputs,) if isinstance(outputs, Tensor) else outputs
    made.outputs.extend(tensor.numpy() for tensor in tensors)
    return made


@contextmanager
def _fed(
    module: nn.Module,
    sites: Sequence[Site],
    wanted: Mapping[str, Wanted],
    given: Callable[[np.ndarray], Tensor],
    made: Made,
) -> Iterator[None]:
    """Give each activation the reference's input, and the layers behind it the reference's output."""
    hooks = []
    for path in {site.path.split("#")[0] for site in sites}:
        exchange = _Exchange(_uses(path, sites), wanted, given, made)
        part = module.get_submodule(path)
        hooks += [part.register_forward_pre_hook(exchange.arrive), part.register_forward_hook(exchange.leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Exchange:
    """Notes what arrives at one module and leaves it, use by use, and passes the reference's values on."""

    def __init__(
        self, uses: Sequence[str], wanted: Mapping[str, Wanted], given: Callable[[np.ndarray], Tensor], made: Made
    ) -> None:
        self._uses, self._wanted, self._given, self._made = iter(uses), wanted, given, made

    def arrive(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        self._use = next(self._uses)
        self._made.arriving[self._use] = inputs[0].numpy().copy()
        return (self._given(self._wanted[self._use].entering),)

    def leave(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        self._made.leaving[self._use] = output.numpy().copy()
        return self._given(self._wanted[self._use].leaving)


def _uses(path: str, sites: Sequence[Site]) -> list[str]:
    """Names of the uses of a shared module: path, path#2, ..."""
    return [site.path for site in sites if site.path.split("#")[0] == path]
