"""Triton's Python backend: encoded pictures -> what a detector takes, and their sizes for its boxes.

JPEG, PNG ... -> resized as in training -> normalised and padded (or bytes, where the network does that) + sizes
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from apa_pictures.pictures import network_input, read_picture, resize, resized_size
from apa_pictures.spec import DetectorSpec, Rpn

LARGEST = 1 << 26  # pixels: above, a picture of a few kilobytes would fill the memory


def decode_picture(encoded: bytes) -> np.ndarray:
    """One picture (H, W, 3), RGB bytes.

    Raises:
        ValueError: not a picture, or one that is too large.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            if opened.width * opened.height > LARGEST:
                raise ValueError(f"a picture of {opened.width}x{opened.height}; wanted at most {LARGEST} pixels")
            return read_picture(opened)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a picture: {error}") from error


def prepare_pictures(encoded: list, detector: dict) -> dict:
    """The network's inputs, and `sizes` (N, 4): height and width as it sees the picture, and of the picture."""
    pictures = [decode_picture(one) for one in encoded]
    limits, keep = tuple(detector["resize"]), detector["keep_ratio"]
    resized = [resize(p, *resized_size(*p.shape[:2], limits=limits, keep_ratio=keep)) for p in pictures]
    pairs = zip(resized, pictures, strict=True)
    sizes = np.array([(*small.shape[:2], *whole.shape[:2]) for small, whole in pairs], np.float32)
    if pixels := detector.get("pixels"):
        if len({picture.shape for picture in resized}) > 1:
            raise ValueError("pictures of several sizes in one request; wanted one size, or one picture")
        batch = np.stack([p[:, :, ::-1] if pixels["channels"] == "bgr" else p for p in resized])
        batch = batch.transpose(0, 3, 1, 2) if pixels["layout"] == "nchw" else batch
        return {"images": np.ascontiguousarray(batch), "sizes": sizes}
    numbers = {name: detector[name] for name in ("mean", "std", "divisor")} | {"bgr": detector["bgr_to_rgb"]}
    images, valid = network_input(resized, DetectorSpec("", "", Rpn(), (), **numbers))
    return {"images": images, "valid_wh": valid, "sizes": sizes}


class TritonPythonModel:
    """Needs numpy and Pillow in the server's Python."""

    def initialize(self, args: dict) -> None:
        self.detector = json.loads(json.loads(args["model_config"])["parameters"]["detector"]["string_value"])

    def execute(self, requests: list) -> list:
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        import triton_python_backend_utils as triton

        encoded = triton.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)
        try:
            arrays = prepare_pictures(list(encoded), self.detector)
        except ValueError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor(*pair) for pair in arrays.items()])
