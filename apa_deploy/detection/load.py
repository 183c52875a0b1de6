"""A detector's state dict and config -> the torch module that is its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .. import architectures
from ..architectures import fill_module
from .config import Config
from .module import Detector
from .read import State, read_detector


@dataclass(frozen=True)
class LoadedDetector:
    """The module, float32 in eval mode; the backbone's name; what had to be assumed."""

    module: Detector
    backbone: str
    notices: tuple[str, ...]


def detector_from_state(
    state: State, config: Config | None, *, floor: str | None = None, class_count: int = 0, **overrides: Any
) -> LoadedDetector:
    """The detector of `state`, every key used and none missing.

    Args:
        overrides: fields of `DetectorSpec` that replace what the config says, None for no change.

    Raises:
        DetectorError: parts are unknown.
        KeysError: keys are missing, unexpected or of another shape.
    """
    import dataclasses

    found = read_detector(state, config, class_count)
    given = {name: value for name, value in overrides.items() if value is not None}
    spec = dataclasses.replace(found.spec, **given)
    own = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    backbone, inferred = architectures.network_of(own, classif_norm=None, given_norm=False, floor=floor)
    rest = {key: value for key, value in state.items() if not key.startswith("backbone.")}
    with torch.device("meta"):
        module = Detector(spec, torch.nn.Identity(), {key: tuple(value.shape) for key, value in rest.items()})
    module = fill_module(module, rest, spec.name, assign=True).float()
    module.backbone = backbone.float()
    return LoadedDetector(module, inferred.spec.name, (*found.notices, *inferred.notices))
