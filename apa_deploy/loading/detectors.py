"""A checkpoint of a whole detector -> a `DetectorNetwork`, as the options say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..choices import DETECTORS
from ..detection.config import Config, parse_config, read_detector_config
from ..detection.graph import PAIRS
from ..detection.load import detector_from_state
from ..detection.read import has_heads
from ..detection.spec import RAW_OUTPUTS
from ..errors import InputError
from ..network import Metadata
from ..tensors.signature import Shape
from .checkpoint import Checkpoint
from .detector_network import DetectorNetwork, detector_signature

# Twice the photograph, padded: small enough for a float64 reference on a laptop. Height and width stay open.
_USUAL_IMAGE = (3, 320, 448)
_MOST_DETECTIONS = 3840  # TensorRT's TopK takes no more


@dataclass(frozen=True)
class DetectorOptions:
    """What the user says. `detector`: one of DETECTORS, None for end2end where heads are there. Others: None.

    `config`: a file that takes the place of the config in the checkpoint.
    """

    detector: str | None = None
    config: str | Path | None = None
    score_thr: float | None = None
    nms_iou: float | None = None
    max_detections: int | None = None

    def check(self) -> None:
        """Refuse what no detector can do.

        Raises:
            InputError: a mode or a number out of its range, or an option of the last NMS without one.
        """
        if self.detector not in (None, *DETECTORS):
            raise InputError(
                f"--detector {self.detector}", f"one of {', '.join(DETECTORS)}", "Choose one of these."
            )
        for name, value, most in (("score-thr", self.score_thr, 1), ("nms-iou", self.nms_iou, 1)):
            if value is not None and not 0 <= value <= most:
                raise InputError(f"--{name} {value:g}", "0 to 1", "Choose a number between them.")
        if self.max_detections is not None and not 1 <= self.max_detections <= _MOST_DETECTIONS:
            saw = f"--max-detections {self.max_detections}"
            raise InputError(saw, f"1 to {_MOST_DETECTIONS}", "Choose a number between them.")
        if self.detector in ("raw", "backbone") and self._of_nms():
            saw = f"--{self._of_nms()[0]} with --detector {self.detector}"
            raise InputError(saw, "end2end, which has the last NMS", "Leave it out.")

    def _of_nms(self) -> list[str]:
        return [
            n.replace("_", "-") for n in ("score_thr", "nms_iou", "max_detections") if getattr(self, n) is not None
        ]

    @property
    def given(self) -> list[str]:
        """Names of the options that only a whole detector has."""
        mode = ["detector"] if self.detector in ("end2end", "raw") else []
        return [*mode, *(["config"] if self.config is not None else []), *self._of_nms()]


def is_detector(checkpoint: Checkpoint, options: DetectorOptions) -> bool:
    """Whether `checkpoint` is to be loaded as a whole detector.

    Raises:
        InputError: the options want one and there are no heads.
    """
    if has_heads(checkpoint.state):
        return options.detector != "backbone"
    if options.given:
        saw = f"--{options.given[0]} with weights that have no detection heads"
        raise InputError(saw, "a detector's checkpoint (backbone., neck., rpn_head., roi_head.)", "Leave it out.")
    return False


def network_from_detector(
    checkpoint: Checkpoint, options: DetectorOptions, floor: str | None, image: Shape | None
) -> DetectorNetwork:
    """The whole detector of a checkpoint.

    Raises:
        DetectorError: it has parts that are not known.
        InputError: its config cannot be read, or says too little.
    """
    if options.config is not None:
        config: Config | None = read_detector_config(Path(options.config))
    else:
        config = parse_config(checkpoint.config, "the checkpoint's config") if checkpoint.config else None
    overrides: dict[str, Any] = {n: getattr(options, n) for n in ("score_thr", "nms_iou", "max_detections")}
    classes = checkpoint.classes
    found = detector_from_state(checkpoint.state, config, floor=floor, class_count=len(classes), **overrides)
    module, spec = found.module, found.module.detector
    module.raw = options.detector == "raw"
    named = len(classes) == spec.classes
    notices = (*checkpoint.notices, *found.notices)
    if classes and not named:
        notices += (f"{len(classes)} class names for {spec.classes} classes: left out, labels are numbers",)
    metadata = Metadata(
        architecture=f"{spec.name} {found.backbone}",
        weights=checkpoint.weights,
        output_names=RAW_OUTPUTS if module.raw else spec.output_names,
        notices=notices,
        labels=list(classes) if named else None,
        detector={
            "output": options.detector or DETECTORS[0],
            "score_thr": spec.score_thr,
            "nms_iou": spec.nms_iou,
            "max_detections": spec.max_detections,
            "pairs": PAIRS,
            "mask_thr": spec.mask_thr,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "bgr_to_rgb": spec.bgr,
            "divisor": spec.divisor,
            "resize": list(spec.resize),
            "keep_ratio": spec.keep_ratio,
        },
    )
    shape = image or _USUAL_IMAGE
    if len(shape) != 3 or shape[0] != 3:
        saw = f"--input-shape {'x'.join(map(str, shape))} for {metadata.architecture}"
        raise InputError(saw, "an image of three channels", "Give three sizes, e.g. 3x800x1344.")
    if any(side % 32 for side in shape[1:]):
        metadata = dataclasses.replace(metadata, notices=(*metadata.notices, _padding(shape, spec.divisor)))
    return DetectorNetwork(module, detector_signature(shape), metadata)


def _padding(shape: Shape, divisor: int) -> str:
    return f"--input-shape {'x'.join(map(str, shape))} is no multiple of {divisor}, to which training pads pictures"
