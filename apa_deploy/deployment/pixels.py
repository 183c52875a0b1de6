"""Normalisation of uint8 pixels inside the graph; resizing and cropping stay with the caller.

(N, H, W, 3) or (N, 3, H, W), uint8   ->   ((pixel * scale) - mean) / std, (N, 3, H, W)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from ..choices import CHANNELS, LAYOUTS
from ..errors import InputError
from ..files import SourceError, read_text

_Three = tuple[float, float, float]


class Recipe(BaseModel):
    """What a preprocessing file holds. `mean` and `std` apply after `scale`, in the network's channel order.

    `channels`: the order that the network wants; `input_channels`: in which its pictures are usually read.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    mean: _Three
    std: tuple[float, float, float] = Field(description="each above 0")
    scale: float = 1 / 255
    channels: Literal["rgb", "bgr"] = "rgb"
    input_channels: Literal["rgb", "bgr"] = "rgb"


RECIPES = {
    "imagenet": Recipe(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "cifar": Recipe(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
    "mmdet": Recipe(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), scale=1.0, input_channels="bgr"),
}


class Pixels(nn.Module):
    """uint8 pixels, `layout` and `channels` as the caller gives them -> the network's normalised input."""

    factor: Tensor
    shift: Tensor

    def __init__(self, recipe: Recipe, layout: str, channels: str) -> None:
        super().__init__()
        self.layout, self.channels, self.swap = layout, channels, channels != recipe.channels
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (recipe.mean, recipe.std))
        self.register_buffer("factor", (recipe.scale / std).reshape(1, 3, 1, 1).float())
        self.register_buffer("shift", (-mean / std).reshape(1, 3, 1, 1).float())

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.factor.dtype)  # first: TensorRT moves no uint8
        x = x.permute(0, 3, 1, 2) if self.layout == "nhwc" else x
        x = x.flip(1) if self.swap else x
        return x * self.factor + self.shift


def pixels_of(preprocess: str, layout: str, channels: str | None) -> Pixels:
    """The module for a named recipe or a JSON file; `channels`: the order in which pixels come.

    Raises:
        InputError: neither a recipe nor a readable file of one, or an unknown layout or order.
    """
    recipe = recipe_of(preprocess)
    if layout not in LAYOUTS or channels not in (None, *CHANNELS):
        raise InputError(f"layout {layout}, channels {channels}", "nhwc or nchw, rgb or bgr", "Choose among these.")
    return Pixels(recipe, layout, channels or recipe.input_channels)


def recipe_of(preprocess: str) -> Recipe:
    """A recipe by its name, or from a JSON file.

    Raises:
        InputError: it is neither.
    """
    return RECIPES.get(preprocess) or _read(Path(preprocess))


def _read(path: Path) -> Recipe:
    try:
        recipe = Recipe.model_validate_json(read_text(path))
        if min(recipe.std) <= 0:
            raise ValueError("std: wanted above 0")
    except SourceError as error:
        wanted = f"{', '.join(RECIPES)}, or a JSON file"
        raise InputError(f"--preprocess {path}: {error.reason}", wanted, f"Write e.g. {_example()}") from error
    except (ValidationError, ValueError) as error:
        reason = "; ".join(str(error).splitlines()[:3])
        raise InputError(f"--preprocess {path}: {reason}", "mean and std", f"Write e.g. {_example()}") from error
    return recipe


def _example() -> str:
    return json.dumps(RECIPES["imagenet"].model_dump(include={"mean", "std", "scale", "channels"}))
