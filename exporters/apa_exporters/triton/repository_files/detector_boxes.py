"""Triton's Python backend: a detector's boxes and masks -> in pixels of the pictures that were sent."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from apa_pictures.pictures import paste_masks, rescale


def to_pictures(boxes: np.ndarray, sizes: np.ndarray, masks: np.ndarray | None, threshold: float) -> dict:
    """Boxes (N, K, 4), and masks (N, K, H, W) of bool; H and W of the largest picture of the request."""
    pairs = [((int(high), int(wide)), (int(h), int(w))) for high, wide, h, w in sizes]
    found = np.stack([rescale(b, *pair) for b, pair in zip(boxes, pairs, strict=True)])
    if masks is None:
        return {"boxes": found}
    height, width = (max(size[axis] for _, size in pairs) for axis in (0, 1))
    pasted = np.zeros((*masks.shape[:2], height, width), np.bool_)
    for whole, mask, box, (_, (high, wide)) in zip(pasted, masks, found, pairs, strict=True):
        whole[:, :high, :wide] = paste_masks(mask, box, high, wide, threshold)
    return {"boxes": found, "masks": pasted}


class TritonPythonModel:
    """Needs numpy in the server's Python."""

    def initialize(self, args: dict) -> None:
        config = json.loads(args["model_config"])
        self.threshold = float(config["parameters"]["mask_thr"]["string_value"])
        self.inputs = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests: list) -> list:
        import triton_python_backend_utils as triton

        answers = []
        for request in requests:
            given = {n: triton.get_input_tensor_by_name(request, n).as_numpy() for n in self.inputs}
            found = to_pictures(given["net_boxes"], given["sizes"], given.get("net_masks"), self.threshold)
            answers.append(triton.InferenceResponse([triton.Tensor(*pair) for pair in found.items()]))
        return answers
