"""A detector's state dict and config -> the torch module that is its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .. import architectures
from ..architectures import fill_module
from .config import Config
from .module import Detector
from .read import DetectorError, State, read_detector


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
        overrides: of the last NMS, see `read_detector`.

    Raises:
        DetectorError: parts are unknown.
        KeysError: keys are missing, unexpected or of another shape.
    """
    found = read_detector(state, config, class_count, **overrides)
    spec = found.spec
    own = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    backbone, inferred = architectures.network_of(own, classif_norm=None, given_norm=False, floor=floor)
    rest = {key: value for key, value in state.items() if not key.startswith("backbone.")}
    shapes = {key: tuple(value.shape) for key, value in rest.items()}
    try:
        with torch.device("meta"):
            module = Detector(spec, torch.nn.Identity(), shapes)
        module = fill_module(module, rest, spec.name, assign=True).float()
        module.backbone = backbone.float()
        _run_parts(module)
    except KeyError as error:
        raise DetectorError([], f"a detector without {error.args[0]}") from error
    except (RuntimeError, ValueError, IndexError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DetectorError([], f"a detector whose parts do not fit one another ({reason})"[:240]) from error
    return LoadedDetector(module, inferred.spec.name, (*found.notices, *inferred.notices))


@torch.inference_mode()
def _run_parts(module: Detector) -> None:
    """Every part once, on a small image and one RoI: shapes that do not go together raise here."""
    pyramid = module.neck(module.backbone(torch.zeros(1, 3, 64, 64)))
    module.rpn_head(pyramid)
    maps, box = [level[0] for level in pyramid], torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    module.heads(maps, box, torch.tensor([64.0, 64.0]))
    masks = module.mask_logits(maps, box, torch.tensor([module.detector.classes - 1]))
    for found, head in zip(masks, module.detector.masks, strict=True):
        if found.shape[1:] != (2 * head.align.size,) * 2:
            raise ValueError(f"{head.prefix}convs make masks of {found.shape[1]} x {found.shape[2]}")
