"""Triton's Python backend: encoded pictures -> the pixels that a network takes. Normalising is the network's.

JPEG, PNG ... -> shorter side resized (bilinear) -> centre cropped -> uint8 in the network's layout and order
"""

import io
import json

import numpy as np
from PIL import Image

LARGEST = 1 << 26  # pixels: above, a picture of a few kilobytes would fill the memory


def pixels(encoded: bytes, resize: int, height: int, width: int, layout: str, channels: str) -> np.ndarray:
    """One picture as (height, width, 3) or (3, height, width), uint8.

    Raises:
        ValueError: not a picture, or one that is too large.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            if opened.width * opened.height > LARGEST:
                raise ValueError(f"a picture of {opened.width}x{opened.height}; wanted at most {LARGEST} pixels")
            picture = _resize(opened.convert("RGB"), resize)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a picture: {error}") from error
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    array = np.asarray(picture.crop((left, top, left + width, top + height)))
    array = array[..., ::-1] if channels == "bgr" else array
    return np.ascontiguousarray(array.transpose(2, 0, 1) if layout == "nchw" else array)


def _resize(picture: Image.Image, shorter: int) -> Image.Image:
    """As torchvision's Resize(shorter) does it: the longer side is cut to whole pixels."""
    width, height = picture.size
    size = int(shorter * max(1, width / height)), int(shorter * max(1, height / width))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)


class TritonPythonModel:
    """Needs numpy and Pillow in the server's Python."""

    def initialize(self, args: dict) -> None:
        values = json.loads(args["model_config"])["parameters"]
        text = {key: value["string_value"] for key, value in values.items()}
        self.options = [int(text[key]) for key in ("resize", "height", "width")] + [
            text["layout"],
            text["channels"],
        ]

    def execute(self, requests: list) -> list:
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        import triton_python_backend_utils as triton

        encoded = triton.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)
        try:
            array = np.stack([pixels(one, *self.options) for one in encoded])
        except ValueError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor("pixels", array)])
