"""Swap every activation of a network for ours, recognised by behaviour.

    UniRect(lambda_param=-0.2, kappa_param=1.1)   ->   AGLU(lambda=1e-08, kappa=1.1)

A module's name says little (Ultralytics' `AGLU` is the gate, upstream's `UniRect` the unit, and the floors
differ). A candidate is a module with exactly two small parameters of its own. It is run in float64 with parameters
that we choose, and its answers are compared with the gate and the unit under each known floor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .graph.sites import ActivationSite, NoMatch
from .maths import GATE, REFERENCE, SAMPLES, UNIT, Float64, ParameterError, effective_parameters, fit_curve
from .modules import MODULES, _Activation, freeze

# z of the probes. Inside +-6, so that the softplus threshold of common implementations is not met.
_GRID = np.linspace(-6, 6, 25)
# The implementations differ from the exact formula by at most 1.2e-9 in float64 (their softplus is linear
# beyond 20); the floors differ from one another by 2.7e-5 in the gate. 1e-7 lies clear of both.
_TOLERANCE = 1e-7
# Of a module with its own parameters against the exact formula: half of what the gate allows an activation.
_OWN_TOLERANCE = 1e-6
# Raw (lambda, kappa) that tell the floors apart: ordinary, below 1e-4, and negative.
_PROBES = ((0.7, 1.3), (2.5, -0.6), (5e-5, 0.9), (-0.3, 1.1))

FLOORS: dict[str, Callable[[Float64], Float64]] = {
    "relu+1e-8": lambda raw: np.maximum(raw, 0) + 1e-8,
    "clamp 1e-4": lambda raw: np.maximum(raw, 1e-4),
    "none": lambda raw: raw,
}
FITTED = "fitted"
_OTHER_LIMIT = "with its own lambda, so near 0, its formula answers otherwise than exp(-exp(-kappa*z)), its limit"


@dataclass(frozen=True)
class Replacements:
    """What `replace_activations` found, in the order of the network's modules, and what it refused."""

    found: tuple[ActivationSite, ...]
    refused: tuple[NoMatch, ...]


def replace_activations(module: nn.Module) -> Replacements:
    """Replace, in place, every activation below `module` by `AGLU` or `APA` with effective parameters.

    A module that stands in several places stays one module in all of them. `module` itself is not replaced.

    Raises:
        ParameterError: an activation holds a lambda or kappa that is not finite.
    """
    matches, refused = _recognise_all(module)
    ours = {id(part): _module_of(site) for part, site in matches}
    _swap(module, ours)
    return Replacements(tuple(site for _, site in matches), refused)


def find_activations(module: nn.Module) -> tuple[ActivationSite, ...]:
    """The activations that `replace_activations` would replace; `module` stays as it is.

    Raises:
        ParameterError: see `replace_activations`.
    """
    return tuple(site for _, site in _recognise_all(module)[0])


def _recognise_all(module: nn.Module) -> tuple[list[tuple[nn.Module, ActivationSite]], tuple[NoMatch, ...]]:
    found, refused = [], []
    for path, candidate in _candidates(module):
        match = recognise_module(path, candidate)
        if isinstance(match, NoMatch):
            refused.append(match)
        else:
            found.append((candidate, match))
    return found, tuple(refused)


def _module_of(site: ActivationSite) -> _Activation:
    parameters = site.parameters
    return MODULES[site.kind](parameters.lambda_, parameters.kappa, parameters.axis)


def recognise_module(path: str, candidate: nn.Module) -> ActivationSite | NoMatch:
    """What `candidate` is, by running it; `path` only names it in the answer."""
    if isinstance(candidate, _Activation):
        return ActivationSite(path, candidate.kind, candidate.effective, "none")
    parameters = _own_parameters(candidate)
    for lambda_name, kappa_name in _assignments(parameters):
        probe = _Probe(candidate, lambda_name, kappa_name)
        match = probe.match(path)
        if match is not None:
            shape = tuple(probe.lambda_.shape)
            if sum(size > 1 for size in shape) > 1:
                return NoMatch(path, f"its parameters have the shape {shape}: a node has them along one axis")
            return match
    return NoMatch(path, f"{type(candidate).__name__} answers neither as APA nor as AGLU for any known floor")


def _candidates(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with two parameters of equal size of their own, no others below; not torch's own layers."""
    for path, child in module.named_modules():
        if isinstance(child, _Activation):
            yield path, child
        elif child is not module and not type(child).__module__.startswith("torch.nn.modules"):
            own = _own_parameters(child)
            sizes = {p.numel() for p in own.values()}
            if len(own) == 2 and len(sizes) == 1 and len(list(child.parameters())) == 2:
                yield path, child


def _own_parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters(recurse=False) if p.is_floating_point()}


def _assignments(parameters: dict[str, Tensor]) -> list[tuple[str, str]]:
    """Which parameter may be lambda and which kappa: by name where the names tell, else both ways."""
    first, second = parameters
    if "kap" in first.lower() or "lam" in second.lower():
        return [(second, first)]
    if "kap" in second.lower() or "lam" in first.lower():
        return [(first, second)]
    return [(first, second), (second, first)]


class _Probe:
    """A float64 copy of a candidate that can be run with any parameters."""

    def __init__(self, candidate: nn.Module, lambda_name: str, kappa_name: str) -> None:
        self.module = freeze(copy.deepcopy(candidate).double())
        self.lambda_, self.kappa = getattr(self.module, lambda_name), getattr(self.module, kappa_name)
        self.raw_lambda, self.raw_kappa = self.lambda_.clone(), self.kappa.clone()

    def match(self, path: str) -> ActivationSite | NoMatch | None:
        for name, raw in (("lambda", self.raw_lambda), ("kappa", self.raw_kappa)):
            if not bool(torch.isfinite(raw).all()):
                raise ParameterError(f"{path}: {name}", raw.flatten().tolist(), "finite values")
        known = self._known_floor()
        if known is None:
            return self._fit(path)
        kind, floor = known
        lambda_ = FLOORS[floor](self.raw_lambda.numpy())
        # A floor of "none" with a negative lambda is no activation: let the parameters say so.
        site = self._describe_site(path, kind, floor, lambda_, self.raw_kappa.numpy())
        return site if self._draws(kind, lambda_) else NoMatch(path, _OTHER_LIMIT)

    def _draws(self, kind: str, lambda_: Float64) -> bool:
        """Whether the module draws the curve of its own parameters, where it answers numbers at all."""
        y = self._run(None, None)
        if y is None:
            return False
        y = y.reshape(len(y), -1)
        wanted = REFERENCE[kind](_GRID[:, None], lambda_.reshape(-1), self.raw_kappa.numpy().reshape(-1))
        told = np.isfinite(y) & np.isfinite(wanted)
        off = np.abs(np.where(told, y - wanted, 0)).max()
        return bool(told.any() and off <= _OWN_TOLERANCE * np.abs(np.where(told, wanted, 0)).max())

    def _known_floor(self) -> tuple[str, str] | None:
        answers = [(lam, k, self._run(lam, k)) for lam, k in _PROBES]
        for kind in (GATE, UNIT):
            for floor, apply in FLOORS.items():
                probes = answers[:3] if floor == "none" else answers
                if all(_close(y, REFERENCE[kind](_GRID, apply(np.asarray(lam)), k)) for lam, k, y in probes):
                    return kind, floor
        return None

    def _fit(self, path: str) -> ActivationSite | None:
        """Some other parametrisation: fit the curve that the module draws with the parameters it has."""
        y = self._run(None, None, np.concatenate([_GRID, SAMPLES]))
        if y is None or not np.isfinite(y).all():
            return None
        y = y.reshape(len(y), -1)
        for kind, scale in ((GATE, (1.0, 1.0)), (UNIT, SAMPLES)):
            lambda_, kappa = fit_curve(y[-2] / scale[0], y[-1] / scale[1])
            wanted = REFERENCE[kind](_GRID[:, None], lambda_, kappa)
            if np.isfinite(wanted).all() and _close(y[:-2], wanted):
                return self._describe_site(path, kind, FITTED, lambda_, kappa)
        return None

    def _describe_site(self, path: str, kind: str, floor: str, lambda_: Float64, kappa: Float64) -> ActivationSite:
        effective = effective_parameters(lambda_, kappa, _axis(tuple(self.lambda_.shape)))
        return ActivationSite(path, kind, effective, floor)

    def _run(self, lambda_: float | None, kappa: float | None, grid: Float64 = _GRID) -> Float64 | None:
        """The answers on `grid`, shape (len(grid), ...); None where the module does not work like that."""
        self.lambda_.copy_(self.raw_lambda if lambda_ is None else torch.full_like(self.raw_lambda, lambda_))
        self.kappa.copy_(self.raw_kappa if kappa is None else torch.full_like(self.raw_kappa, kappa))
        z = torch.from_numpy(grid).reshape(-1, *[1] * max(3, self.lambda_.ndim - 1))
        z = z.expand(-1, *_channels(tuple(self.lambda_.shape))).contiguous()
        try:
            y = self.module(z)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
            return None
        if not isinstance(y, Tensor) or y.shape != z.shape or y.is_complex():
            return None
        return y.detach().double().numpy()


def _channels(shape: tuple[int, ...]) -> list[int]:
    """Sizes of the axes after the first of a probe that broadcasts with a parameter of `shape`."""
    return [1] * max(0, 3 - len(shape)) + list(shape if len(shape) <= 3 else shape[1:])


def _axis(shape: tuple[int, ...]) -> int:
    """Where a parameter of `shape` has its channels: 1 for (1, C, 1, 1), else counted from the end."""
    wide = [i for i, size in enumerate(shape) if size > 1]
    if not wide or (wide[0] == 1 and len(shape) == 4):
        return 1
    return wide[0] - len(shape)


def _close(y: Float64 | None, wanted: Float64) -> bool:
    if y is None:
        return False
    wanted = wanted if wanted.ndim == y.ndim else wanted.reshape(-1, *[1] * (y.ndim - 1))
    return bool(np.isfinite(y).all() and np.abs(y - wanted).max() <= _TOLERANCE)


def _swap(module: nn.Module, ours: dict[int, _Activation]) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in ours:
                parent._modules[name] = ours[id(child)]
