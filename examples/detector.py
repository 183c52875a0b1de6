"""A whole detector, from mmdet's checkpoint to boxes.  python examples/detector.py [detector.pth]

Without a checkpoint it uses a very small Faster R-CNN with random weights, so its boxes mean nothing.
"""

import sys
from pathlib import Path

import torch
from apa_exporters.cli import main as apa_export

import apa_deploy
from apa_deploy.detection.pictures import network_input, photograph, rescale, resize, resized_size
from apa_deploy.detection.spec import DetectorSpec, Rpn


def small_checkpoint(path):
    """Weights in mmdet's names and the config that belongs to them."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.detection.small_detectors import make

    weights, config = make("v3det_faster")
    torch.save({"meta": {"cfg": f"model = {config['model']!r}"}, "state_dict": weights}, path)
    return path


if __name__ == "__main__":
    source = sys.argv[1] if len(sys.argv) > 1 else small_checkpoint("detector.pth")
    if apa_export([source, "--input-shape", "3x96x128", "-o", "detector.onnx", "--force"]):
        raise SystemExit(1)
    picture = photograph()  # or your own: height x width x 3 bytes, RGB
    size = resized_size(*picture.shape[:2], limits=(160, 120))
    spec = DetectorSpec("", "", Rpn(), ())  # mmdet's usual mean, deviation and padding
    images, valid_wh = network_input([resize(picture, *size)], spec)
    with apa_deploy.Session("detector.onnx") as session:
        found = session.run({"images": images, "valid_wh": valid_wh})
    count = int(found["num"][0])
    boxes = rescale(found["boxes"][0, :count], size, picture.shape[:2])
    print(f"{count} detections")
    for box, score, label in list(zip(boxes, found["scores"][0], found["labels"][0], strict=False))[:3]:
        print(f"class {label}, score {score:.2f}, box {box.round()}")
