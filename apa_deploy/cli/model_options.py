"""Options of every verb that loads a checkpoint: how to read it, and what is baked around its network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import CHANNELS, DETECTORS, FLOORS, IIF_VARIANTS, LAYOUTS, NORMS, PREPROCESSINGS, WEIGHTS
from .common import limit_of

if TYPE_CHECKING:
    from ..deployment import Deployment

_DETECTION = ("detector", "config", "score_thr", "nms_iou", "max_detections")
_LOADING = ("weights", "arch", "classif_norm", "floor", "model", "trust_pickle", "input", "example", *_DETECTION)


def add_loading(group: argparse._ArgumentGroup) -> None:
    """How a checkpoint is read."""
    group.add_argument("--weights", choices=WEIGHTS, default="model", help="ema: the averaged weights")
    group.add_argument("--arch", help="the network must have this architecture, e.g. se_resnet50")
    group.add_argument(
        "--classif-norm", choices=NORMS, help="upstream's classifier head, if the keys do not show it"
    )
    group.add_argument("--floor", choices=FLOORS, help="least lambda of the units, if it is an unusual one")
    group.add_argument("--trust-pickle", action="store_true", help="run the code in MODEL: pickled modules, .pt2")
    group.add_argument("--model", metavar="PKG.MOD:FACTORY", help="callable that makes your own network")
    group.add_argument(
        "--input",
        metavar="NAME=SHAPE[:DTYPE]",
        action="append",
        default=[],
        help="an input of one sample, e.g. ids=16:int64; a letter is an open size; repeatable",
    )
    group.add_argument("--example", metavar="PKG.MOD:FUNCTION", help="function that returns the inputs of one call")
    group.add_argument("--detector", choices=DETECTORS, help="how much of a detector (default: end2end)")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="detector's mmengine config; parsed, never executed"
    )
    group.add_argument("--score-thr", type=limit_of, metavar="X", help="score threshold (default: the config's)")
    group.add_argument(
        "--nms-iou", type=limit_of, metavar="X", help="IoU threshold of the last NMS (default: the config's)"
    )
    group.add_argument("--max-detections", type=int, metavar="N", help="most per image (default: the config's)")


def loading_of(options: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for `load`."""
    given = {name: getattr(options, name) for name in _LOADING}
    return given | {"config": str(options.config) if options.config else None}


def add_deployment(group: argparse._ArgumentGroup) -> None:
    """What is baked around the network."""
    names = ", ".join(PREPROCESSINGS)
    group.add_argument(
        "--preprocess", metavar="NAME|FILE", help=f"take uint8 pixels, normalise as: {names}, or a JSON file"
    )
    group.add_argument(
        "--input-layout", choices=LAYOUTS, default="nhwc", help="layout of the pixels (default: nhwc)"
    )
    group.add_argument("--input-channels", choices=CHANNELS, help="order of the pixels' channels")
    group.add_argument(
        "--iif", metavar="VARIANT", help=f"add IIF constants to the logits: {', '.join(IIF_VARIANTS)}"
    )
    group.add_argument("--class-counts", type=Path, metavar="FILE", help="number of training images of each class")
    group.add_argument("--softmax", action="store_true", help="probabilities instead of logits")
    group.add_argument("--labels", type=Path, metavar="FILE", help="class names, in the order of the outputs")


def deployment_of(options: argparse.Namespace) -> Deployment:
    """The options of `add_deployment`."""
    from ..deployment import Deployment

    return Deployment(
        preprocess=options.preprocess,
        layout=options.input_layout,
        channels=options.input_channels,
        iif=options.iif,
        counts=options.class_counts,
        softmax=options.softmax,
        labels=options.labels,
    )
