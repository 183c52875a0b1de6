"""Which of upstream's networks a state dict belongs to, from its keys and shapes.

Two things are not in the keys: the floor of lambda (a head means a classification network, relu+1e-8; none
means mmdet's backbone, clamp 1e-4) and whether a (C, D) weight with a bias is linear or `inv`. Training
arguments, then options, decide those; arguments never overrule keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..choices import NORMS
from ..errors import InputError
from .spec import Head, Spec

State = Mapping[str, Tensor]


class ArchitectureError(InputError):
    """The keys belong to no network that is known here. `keys`: a few of them."""

    def __init__(self, saw: str, keys: Iterable[str]) -> None:
        do = "For your own network give its constructor: --model package.module:factory"
        super().__init__(saw, "the keys of one of upstream's ResNets (conv1, bn1, layer1 ...)", do)
        self.keys = tuple(keys)


@dataclass(frozen=True)
class Inferred:
    """The network, and what had to be assumed to name it."""

    spec: Spec
    notices: tuple[str, ...]


def infer_spec(state: State, classif_norm: str | None, floor: str | None, given_norm: bool = False) -> Inferred:
    """The `Spec` of `state` (prefixes already stripped).

    Args:
        classif_norm: upstream's training argument or the user's option, one of NORMS or None.
        floor: floor of the units' lambda, where the user overrides it.
        given_norm: whether the user (not the checkpoint) named `classif_norm`: then a contradiction is refused.

    Raises:
        ArchitectureError: the keys fit no known network.
        InputError: `classif_norm` contradicts the shapes of the head.
    """
    reader = _Reader(state)
    heads, notices = reader.heads(classif_norm, given_norm)
    spec = Spec(
        cifar=reader.cifar,
        bottleneck=reader.bottleneck,
        depths=reader.depths,
        in_channels=reader.stem[1],
        widths=reader.widths(),
        groups=reader.groups(),
        base_width=reader.base_width(),
        gate=reader.gate(),
        learned_units=reader.has("unirect", r"\d*\.lambda_param") or "relu.lambda_param" in state,
        learned_channel_gate=reader.has(r"(se\.un(i)?act|ChannelGate\.uniact)", r"\.lambda_param"),
        learned_spatial_gate=reader.has(r"SpatialGate\.uniact", r"\.lambda_param"),
        normed_gate=reader.has(r"se\.norm", r"\.weight"),
        reduction=reader.reduction(),
        heads=heads,
        contrastive=reader.contrastive(),
        unit_floor=floor or ("relu+1e-8" if heads else "clamp 1e-4"),
    )
    return Inferred(spec, tuple(notices))


class _Reader:
    def __init__(self, state: State) -> None:
        self.state = state
        stem = state.get("conv1.weight")
        if stem is None or "layer1.0.conv1.weight" not in state:
            raise ArchitectureError(f"a state dict of {len(state)} keys ({_some(state)})", list(state)[:8])
        self.stem = self._shape("conv1.weight", 4)
        if self.stem[-1] not in (3, 7):
            raise ArchitectureError(f"conv1.weight of shape {self.stem}", ["conv1.weight"])
        self.cifar = self.stem[-1] == 3
        self.bottleneck = "layer1.0.conv3.weight" in state
        self.depths = self._depths()

    def has(self, module: str, parameter: str) -> bool:
        pattern = re.compile(rf"(^|\.){module}{parameter}$")
        return any(pattern.search(key) for key in self.state)

    def _depths(self) -> tuple[int, ...]:
        blocks: dict[int, set[int]] = {}
        for key in self.state:
            if match := re.match(r"layer(\d{1,4})\.(\d{1,4})\.", key):
                blocks.setdefault(int(match[1]), set()).add(int(match[2]))
        if not _counts_from(1, blocks) or not all(_counts_from(0, stage) for stage in blocks.values()):
            raise ArchitectureError("stages or blocks with gaps in their numbers", [])
        return tuple(len(blocks[i]) for i in sorted(blocks))

    def _shape(self, key: str, rank: int) -> tuple[int, ...]:
        """The shape of a weight, of `rank` and without empty axes."""
        if key not in self.state:
            raise ArchitectureError(f"no key {key}", list(self.state)[:8])
        shape = tuple(self.state[key].shape)
        if len(shape) != rank or 0 in shape:
            raise ArchitectureError(f"{key} of shape {shape}", [key])
        return shape

    def widths(self) -> tuple[int, ...]:
        """Planes of each stage: the output channels of its first block, without the expansion."""
        last, expansion = (3, 4) if self.bottleneck else (2, 1)
        stages = range(1, len(self.depths) + 1)
        return tuple(self._shape(f"layer{i}.0.conv{last}.weight", 4)[0] // expansion for i in stages)

    def groups(self) -> int:
        shape = self._shape("layer1.0.conv2.weight", 4)
        return shape[0] // shape[1] if self.bottleneck else 1

    def base_width(self) -> int:
        """Of 64 planes: width = planes * base_width / 64 * groups."""
        if not self.bottleneck:
            return 64
        return self._shape("layer1.0.conv2.weight", 4)[0] * 64 // (self.widths()[0] * self.groups())

    def gate(self) -> str:
        if self.has("se", r"\.excitation\.0\.weight"):
            return "se"
        if self.has("ChannelGate", r"\.mlp\.1\.weight"):
            return "cbam"
        return "spatial" if self.has("SpatialGate", r"\.spatial\.conv\.weight") else "none"

    def reduction(self) -> int:
        for key in ("se.excitation.0.weight", "cbam.ChannelGate.mlp.1.weight", "cb.ChannelGate.mlp.1.weight"):
            weight = self.state.get(f"layer1.0.{key}")
            if weight is not None:
                weight_shape = self._shape(f"layer1.0.{key}", 2)
                return max(1, weight_shape[1] // weight_shape[0])
        return 4 if self.cifar else 16

    def contrastive(self) -> int:
        key = "contrastive.contrast_expand.weight"
        return self._shape(key, 2)[0] if key in self.state else 0

    def heads(self, classif_norm: str | None, given: bool) -> tuple[tuple[Head, ...], list[str]]:
        stem = "linear" if self.cifar else "fc"
        names = [n for n in (stem, f"{stem}1", f"{stem}2") if f"{n}.weight" in self.state]
        features = self.widths()[-1] * (4 if self.bottleneck else 1)
        notices: list[str] = []
        heads = tuple(self._head(name, features, classif_norm, given, notices) for name in names)
        return heads, notices[:1]

    def _head(self, name: str, features: int, norm: str | None, given: bool, notices: list[str]) -> Head:
        weight = self._shape(f"{name}.weight", 2)
        legal = self._legal_norms(name, weight, features)
        if not legal:
            raise ArchitectureError(f"{name}.weight of shape {weight} after {features} features", [name])
        chosen = norm if norm in legal else legal[0]
        if given and norm not in legal:
            raise InputError(
                f"--classif-norm {norm}",
                f"one that fits {name}.weight of shape {weight}: {' or '.join(legal)}",
                "Leave the option out to let the keys decide.",
            )
        if norm is None and len(legal) > 1:
            notices.append(
                f"the keys of {name} fit the heads {' and '.join(legal)}, and the checkpoint names none: "
                f"{chosen} is assumed; --classif-norm {legal[1]} chooses the other"
            )
        return Head(name, chosen, features, weight[1] if chosen == "norm" else weight[0])

    def _legal_norms(self, name: str, weight: tuple[int, ...], features: int) -> list[str]:
        """Heads whose parameters have these shapes, the likeliest first."""
        if f"{name}.scale" in self.state:
            return ["lr_cosine"]
        if f"{name}.bias" not in self.state:
            return ["cosine"] if weight[1] == features else []
        (classes,) = self._shape(f"{name}.bias", 1)
        legal = []
        if weight == (classes, features):
            legal = ["linear"] if self.cifar else ["linear", "inv"]
        return [*legal, "norm"] if weight == (features, classes) else legal


def norm_of(argument: Any) -> str | None:
    """Upstream's `classif_norm` argument as one of NORMS; None where it was not given.

    Raises:
        InputError: it is something else, which says nothing of the head.
    """
    if argument is None or (isinstance(argument, str) and argument in ("None", "")):
        return None
    if not isinstance(argument, str) or argument not in NORMS:
        said = repr(argument[:60]) if isinstance(argument, str) else f"of type {type(argument).__name__}"
        saw = f"training arguments with classif_norm {said}"
        raise InputError(saw, f"one of {', '.join(NORMS)}", "Say which head it is: --classif-norm NORM.")
    return argument


def _counts_from(first: int, numbers: Collection[int]) -> bool:
    return sorted(numbers) == list(range(first, first + len(numbers)))


def _some(state: State) -> str:
    keys = [key[:60] for key in list(state)[:4]]
    return ", ".join(keys[:3]) + (", ..." if len(state) > 3 else "")
