"""What stands around a detector, in NumPy: resize, normalise and pad before it; rescale and paste after it.

    picture (H, W, 3) uint8 -> resize -> images, valid_wh -> detector -> rescale -> paste_masks -> (K, H, W) bool

Resizing is OpenCV's bilinear one on bytes, pasting is mmdet's: both exact to what the networks were trained and
judged with.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .spec import IMAGES, VALID, DetectorSpec, Rpn

Pixels = NDArray[np.uint8]
Float32 = NDArray[np.float32]
# OpenCV's weights of bytes are integers of 11 bits; two passes leave 22 bits to be rounded away.
_BITS = 11


def photograph() -> Pixels:
    """A free photograph, (149, 224, 3) RGB bytes; who made it: data/LICENSE.photograph.txt."""
    stored = (files(__package__) / "data" / "photograph.npz").read_bytes()
    with np.load(BytesIO(stored), allow_pickle=False) as arrays:
        return np.ascontiguousarray(arrays["image"])


def read_picture(image: Any) -> Pixels:
    """RGB bytes (H, W, 3) of what Pillow has opened, as OpenCV reads it: upright, 8 bits, without alpha."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits, of which Pillow makes white
        grey = np.clip(np.asarray(upright) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def resized_size(height: int, width: int, limits: tuple[int, int], keep_ratio: bool = True) -> tuple[int, int]:
    """(height, width) of a picture within `limits`: the longer and the shorter side, as mmdet's Resize."""
    if not keep_ratio:
        return limits[1], limits[0]
    scale = min(max(limits) / max(height, width), min(limits) / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def resize(picture: Pixels, height: int, width: int) -> Pixels:
    """`picture` (H, W, 3) of another size: bilinear, not antialiased, as cv2.resize on bytes."""
    if picture.shape[:2] == (height, width):
        return picture
    rows, row_weights = _neighbours(picture.shape[0], height)
    columns, column_weights = _neighbours(picture.shape[1], width)
    column_weights[0][columns[0] == columns[1]] = 1 << _BITS  # at the left and right edge one pixel is taken whole
    column_weights[1][columns[0] == columns[1]] = 0
    wide = picture.astype(np.int64)
    left, right = (wide[:, columns[i]] * column_weights[i][None, :, None] for i in (0, 1))
    across = (left + right) >> 4
    # OpenCV drops 4 bits between the passes and 16 after each product of the second one
    above, below = ((row_weights[i][:, None, None] * across[rows[i]]) >> 16 for i in (0, 1))
    return np.clip((above + below + 2) >> 2, 0, 255).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """For each new pixel the two old ones, and their weights in units of 2^-11."""
    at = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    low = np.floor(at).astype(np.int64)
    fraction = at - low.astype(np.float32)
    upper = np.rint(fraction * 2**_BITS).astype(np.int64)
    lower = np.rint((1 - fraction) * 2**_BITS).astype(np.int64)
    return [np.clip(low, 0, old - 1), np.clip(low + 1, 0, old - 1)], [lower, upper]


def network_input(pictures: Sequence[Pixels], spec: DetectorSpec, rgb: bool = True) -> tuple[Float32, Float32]:
    """`images` (N, 3, H, W) normalised and padded, and `valid_wh` (N, 2), of resized pictures.

    Args:
        rgb: the order of the pictures' channels; else BGR, as OpenCV reads.
    """
    sizes = [picture.shape[:2] for picture in pictures]
    height, width = (-(-max(size[axis] for size in sizes) // spec.divisor) * spec.divisor for axis in (0, 1))
    images = np.zeros((len(pictures), 3, height, width), np.float32)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    for image, picture in zip(images, pictures, strict=True):
        # without bgr_to_rgb the network takes the channels as OpenCV reads them
        ordered = picture if rgb == spec.bgr else picture[:, :, ::-1]
        image[:, : picture.shape[0], : picture.shape[1]] = ((ordered - mean) / std).transpose(2, 0, 1)
    return images, np.array([(w, h) for h, w in sizes], np.float32)


def photograph_feed(image: Sequence[int], batch: int = 1) -> dict[str, Float32]:
    """A detector's inputs: the photograph as large as an image of (3, H, W) allows, `batch` times.

    Normalised as usual: mmdet's numbers are the same for nearly every network, and a photograph stays one.
    """
    picture, (_, height, width) = photograph_within(image), image
    images, valid = network_input([picture], DetectorSpec("", "", Rpn(), ()))
    whole = np.zeros((batch, 3, height, width), np.float32)
    whole[:, :, : picture.shape[0], : picture.shape[1]] = images[:, :, : picture.shape[0], : picture.shape[1]]
    return {IMAGES: whole, VALID: np.repeat(valid, batch, axis=0)}


def photograph_within(image: Sequence[int]) -> Pixels:
    """The photograph as large as an image of (3, H, W) allows: RGB bytes (h, w, 3)."""
    picture, (_, height, width) = photograph(), image
    scale = min(height / picture.shape[0], width / picture.shape[1])
    return resize(picture, *(max(1, int(side * scale)) for side in picture.shape[:2]))


def rescale(boxes: Float32, network: tuple[int, int], original: tuple[int, int]) -> Float32:
    """Boxes (..., 4) in pixels of the network's input -> of the original; sizes are (height, width)."""
    factors = np.array([original[1] / network[1], original[0] / network[0]] * 2)
    return (boxes * factors).astype(np.float32)


def paste_masks(
    masks: Float32, boxes: Float32, height: int, width: int, threshold: float = 0.5
) -> NDArray[np.bool_]:
    """Probabilities (K, 28, 28) in boxes (K, 4) of a picture -> (K, height, width), where they reach `threshold`.

    mmdet's paste: bilinear between the centres of the mask's pixels, zeros outside, within the box and one pixel.
    """
    found = np.zeros((len(masks), height, width), np.bool_)
    for one, mask, (x1, y1, x2, y2) in zip(found, masks, boxes.astype(np.float32), strict=True):
        left, right = max(int(np.floor(x1)) - 1, 0), min(int(np.ceil(x2)) + 1, width)
        top, bottom = max(int(np.floor(y1)) - 1, 0), min(int(np.ceil(y2)) + 1, height)
        if x2 > x1 and y2 > y1 and right > left and bottom > top:
            rows = _samples(np.arange(top, bottom, dtype=np.float32), y1, y2, mask.shape[0])
            columns = _samples(np.arange(left, right, dtype=np.float32), x1, x2, mask.shape[1])
            one[top:bottom, left:right] = rows @ mask.astype(np.float32) @ columns.T >= threshold
    return found


def _samples(pixels: Float32, low: np.float32, high: np.float32, size: int) -> Float32:
    """(pixels, size): what each of the mask's pixels contributes along one axis."""
    at = ((pixels + np.float32(0.5) - low) / (high - low)) * np.float32(size) - np.float32(0.5)
    distance = np.abs(at[:, None] - np.arange(size, dtype=np.float32)[None])
    return np.maximum(np.float32(1) - distance, 0).astype(np.float32)
