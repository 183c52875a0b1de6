"""The recipe: what to build from what, and how right it must be. Written as recipe.json beside the models."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAME = "recipe.json"
GOLDEN = "golden"
INPUTS, TRUTH = f"{GOLDEN}/inputs.npz", f"{GOLDEN}/float64.npz"
FLOAT32, GAINS = f"{GOLDEN}/torch_float32.npz", f"{GOLDEN}/gains.npz"
PLUGIN, DECOMPOSED, AOT = "plugin", "decomposed", "aot"
PLUGIN_CODES = "plugin-codes"  # of int8: the plugin, with the quantisation behind it
WITH_PLUGIN = (PLUGIN, PLUGIN_CODES)
FP16, INT8, FP8 = "fp16", "int8", "fp8"


@dataclass(frozen=True)
class Limit:
    """How far an output may be from float64, relative to its largest |reference|, and what torch itself reaches.

    `stored`: for half types, the error of storing alone. `min_cosine`: to float64, at least. `evidence`: whether
    the output depends on the inputs.
    """

    limit: float
    torch_float32: float
    stored: float | None = None
    min_cosine: float = 0.0
    evidence: bool = True


@dataclass(frozen=True)
class Detections:
    """Of a detector's last NMS. `most_lost`: of a half type, of average precision."""

    nms_iou: float
    score_thr: float
    most_lost: float | None = None


@dataclass(frozen=True)
class Recipe:
    """Names are relative to the bundle.

    `models`: ONNX file by activation, "plugin", "plugin-codes", "decomposed" or "aot". `shapes`: least, usual and
    largest, by input.
    `limits`: by output; empty: nothing is judged. `precision`: in which the engine must really compute.
    `detections`: of a detector, whose rows are put into float64's order first. `plugin`: the library that
    the models of WITH_PLUGIN need. `workspace`: bytes; `optimization_level`: 0 to 5; None for TensorRT's own.
    `hardware_compatible`: a `HardwareCompatibilityLevel`, or None for this GPU alone.
    `runs`: of each engine, for its latency. `allow_unknown_precision`: keep an engine whose layers' types cannot be
    read. `open_inputs`: those with a size that the model leaves open. `not_tried`: why "auto" left one out.
    """

    models: dict[str, str]
    engine: str
    shapes: dict[str, list[list[int]]]
    precision: str
    limits: dict[str, Limit] = field(default_factory=dict)
    detections: Detections | None = None
    plugin: str | None = None
    workspace: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: str | None = None
    strip_weights: bool = False
    embed_plugin: bool = False
    runs: int = 400
    allow_unknown_precision: bool = False
    open_inputs: list[str] = field(default_factory=list)
    not_tried: dict[str, str] = field(default_factory=dict)


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Write it into a bundle's folder."""
    (folder / NAME).write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")


def read_recipes(folder: Path) -> dict[Path, Recipe]:
    """Those of a bundle, by the folder that their names are relative to: its own, or one a precision."""
    homes = sorted(path.parent for path in folder.glob(f"*/{NAME}")) or [folder]
    return {home: read_recipe(home) for home in homes}


def read_recipe(folder: Path) -> Recipe:
    """The recipe in this folder."""
    fields = json.loads((folder / NAME).read_text(encoding="utf-8"))
    fields["limits"] = {name: Limit(**limit) for name, limit in fields["limits"].items()}
    if fields["detections"]:
        fields["detections"] = Detections(**fields["detections"])
    return Recipe(**fields)
