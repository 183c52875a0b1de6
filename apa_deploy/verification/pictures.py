"""A folder of images as network input: resized and cropped as in the network's own evaluation.

class_a/1.jpg, class_b/2.png ...  ->  shorter side to `resize`, centre crop  ->  pixels, or normalised floats
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

from ..deployment.pixels import Recipe
from ..detection.pictures import network_input, read_picture, resize
from ..detection.spec import IMAGES, VALID, DetectorSpec, Rpn
from ..errors import InputError
from ..require import require
from ..tensors.signature import Feed

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_NAMED = 3
T = TypeVar("T")


class Pictures(BaseModel):
    """`resize`: of the shorter side; None: straight to height x width. `recipe` None: pixels stay uint8.

    `detector`: of one, its numbers: pictures are as large as height x width allow, and padded with zeros behind.
    `bgr`: whether the network takes blue first. `channels_last`: (H, W, 3) instead of (3, H, W).
    """

    height: int
    width: int
    resize: int | None
    recipe: Recipe | None
    bgr: bool = False
    channels_last: bool = False
    detector: dict[str, Any] | None = None


class PictureError(InputError):
    """Images that cannot be read. `paths`."""

    def __init__(self, paths: Sequence[Path], reason: str) -> None:
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        names = ", ".join(path.name for path in paths[:_NAMED])
        super().__init__(f"{names}{more}: {reason}", "readable images", "Repair or remove them.")
        self.paths = list(paths)


def pictures_in(
    folder: Path, pictures: Pictures, classes: Sequence[str] | None = None, most: int | None = None
) -> Iterator[tuple[np.ndarray, int | None]]:
    """Each image of `folder`, by name, beside its class: that of its subfolder, None where there are none.

    Args:
        classes: names in the order of the outputs; else subfolders count by their sorted names, or, where all
            are whole numbers, are the index themselves.
        most: so many at most, evenly spread over all.

    Raises:
        PictureError: some cannot be read.
        InputError: there is none, or a subfolder is no class.
    """
    found = label_pictures(folder, classes, most)
    for i, (path, label) in enumerate(found):
        try:
            yield _prepare(path, pictures), label
        except PictureError as error:
            later = [path for path, _ in found[i + 1 :] if not _readable(path)]
            raise PictureError([path, *later], str(error.__cause__).splitlines()[0]) from error


def detector_feeds(folder: Path, pictures: Pictures, most: int | None = None) -> Iterator[Feed]:
    """Each image of `folder`, by name, as a detector takes it; one a batch, as their sizes differ.

    Args:
        most: so many at most, evenly spread over all.

    Raises:
        PictureError: one cannot be read.
        InputError: there is none.
    """
    numbers = pictures.detector
    assert numbers is not None
    fields = {name: tuple(numbers[name]) for name in ("mean", "std")} | {"bgr": numbers["bgr_to_rgb"]}
    spec = DetectorSpec("", "", Rpn(), (), **fields)
    for path in _spread(folder, _images(folder), most):
        pixels = _pixels(path, None)
        scale = min(pictures.height / pixels.shape[0], pictures.width / pixels.shape[1])
        small = resize(pixels, *(max(1, int(side * scale)) for side in pixels.shape[:2]))
        if pictures.recipe is None:
            small = small[..., ::-1] if pictures.bgr else small
            yield {
                IMAGES: np.ascontiguousarray(small if pictures.channels_last else small.transpose(2, 0, 1))[None]
            }
            continue
        images, valid = network_input([small], spec)
        whole = np.zeros((1, 3, pictures.height, pictures.width), np.float32)
        height, width = small.shape[:2]
        whole[:, :, :height, :width] = images[:, :, :height, :width]
        yield {IMAGES: whole, VALID: valid}


def detector_rows(folder: Path, pictures: Pictures, most: int) -> Feed:
    """Those of `detector_feeds` in one array an input; bytes are padded with the mean colour, nearly 0 later.

    Raises:
        PictureError: one cannot be read.
        InputError: there is none.
    """
    feeds, numbers = list(detector_feeds(folder, pictures, most)), pictures.detector
    assert numbers is not None
    if pictures.recipe is not None:
        return {name: np.concatenate([feed[name] for feed in feeds]) for name in (IMAGES, VALID)}
    mean = np.rint(numbers["mean"]).astype(np.uint8)
    colour = mean[::-1] if pictures.bgr == numbers["bgr_to_rgb"] else mean
    whole = np.empty((len(feeds), pictures.height, pictures.width, 3), np.uint8)
    whole[:] = colour
    rows = whole if pictures.channels_last else whole.transpose(0, 3, 1, 2)
    for row, feed in zip(rows, feeds, strict=True):
        image = feed[IMAGES][0]
        row[tuple(slice(side) for side in image.shape)] = image
    return {IMAGES: np.ascontiguousarray(rows)}


def _readable(path: Path) -> bool:
    try:
        _pixels(path, Pictures(height=1, width=1, resize=None, recipe=None))
    except PictureError:
        return False
    return True


def label_pictures(
    folder: Path, classes: Sequence[str] | None = None, most: int | None = None
) -> list[tuple[Path, int | None]]:
    """The images and their classes; `most`: so many at most, evenly spread."""
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not subfolders:
        found: list[tuple[Path, int | None]] = [(path, None) for path in _images(folder)]
    else:
        index = _indices([path.name for path in subfolders], classes)
        found = [(path, index[sub.name]) for sub in subfolders for path in _images(sub)]
    return _spread(folder, found, most)


def _spread(folder: Path, found: list[T], most: int | None) -> list[T]:
    if not found:
        wanted = f"images ({', '.join(sorted(_SUFFIXES))}), or one subfolder of them a class"
        raise InputError(f"{folder}: no image", wanted, "Check the folder.")
    return found if most is None or most >= len(found) else [found[i * len(found) // most] for i in range(most)]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())


def _indices(names: Sequence[str], classes: Sequence[str] | None) -> dict[str, int]:
    if all(name.isdecimal() for name in names):
        return {name: int(name) for name in names}
    if classes is None:
        return {name: i for i, name in enumerate(names)}
    unknown = [name for name in names if name not in classes]
    if unknown:
        saw = f"subfolders {', '.join(unknown[:_NAMED])} among {len(names)}"
        raise InputError(saw, f"names of the model's {len(classes)} classes", "Rename them, or leave --labels out.")
    return {name: list(classes).index(name) for name in names}


def _prepare(path: Path, pictures: Pictures) -> np.ndarray:
    pixels = _pixels(path, pictures)
    pixels = pixels[..., ::-1] if pictures.bgr else pixels
    recipe = pictures.recipe
    if recipe is not None:
        mean, std = (np.asarray(v) for v in (recipe.mean, recipe.std))
        pixels = ((pixels * recipe.scale - mean) / std).astype(np.float32)
    return np.ascontiguousarray(pixels if pictures.channels_last else pixels.transpose(2, 0, 1))


def _pixels(path: Path, pictures: Pictures | None) -> np.ndarray:
    """uint8 (H, W, 3), red first; None: as a detector's training reads it, as large as it is."""
    image_module: Any = require("PIL.Image")
    bad = (OSError, ValueError, SyntaxError, image_module.DecompressionBombError)
    try:
        with image_module.open(path) as image:
            if pictures is None:
                return read_picture(image)
            return np.asarray(_crop(image.convert("RGB"), pictures, image_module.Resampling.BILINEAR))
    except bad as error:
        raise PictureError([path], str(error).splitlines()[0]) from error


def _crop(image: Any, pictures: Pictures, bilinear: Any) -> Any:
    """torchvision's Resize and CenterCrop, to the pixel: the shorter side, then the middle."""
    if pictures.resize is None:
        same = image.size == (pictures.width, pictures.height)
        return image if same else image.resize((pictures.width, pictures.height), bilinear)
    scale = pictures.resize / min(image.size)
    width, height = (pictures.resize if side == min(image.size) else int(scale * side) for side in image.size)
    image = image.resize((max(width, pictures.width), max(height, pictures.height)), bilinear)
    left, top = round((image.width - pictures.width) / 2), round((image.height - pictures.height) / 2)
    return image.crop((left, top, left + pictures.width, top + pictures.height))
