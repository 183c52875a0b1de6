"""`yolo export`, `apa-export`, `yolo predict` on Ultralytics' own picture: both files say the same.

Random weights with raised class scores, so that something is found; the unit is a user's, the gate theirs.
"""

import numpy as np
import pytest
import torch
from apa_exporters.cli import main
from ultralytics import YOLO
from ultralytics.cfg import entrypoint
from ultralytics.nn.modules import Conv
from ultralytics.nn.modules.activation import AGLU
from ultralytics.utils import ASSETS

SIZE = 64
PICTURE = ASSETS / "bus.jpg"


class Unit(AGLU):
    """What users make of it."""

    def forward(self, x):
        return x * super().forward(x)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_checkpoint(suffix, activation):
    """A `.pt` as Ultralytics saves it, from their yaml: random weights, batch norms that have seen some numbers."""
    torch.manual_seed(0)
    usual, Conv.default_act = Conv.default_act, activation
    try:
        model = YOLO(f"yolov8n{suffix}.yaml", verbose=False)
    finally:
        Conv.default_act = usual
    network = model.model.train()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the average of all that it sees
    with torch.no_grad():
        network(torch.rand(8, 3, SIZE, SIZE))
    network.eval()
    if suffix != "-cls":
        for branch in network.model[-1].cv3:
            torch.nn.init.normal_(branch[-1].weight, std=0.1)  # else nothing is found
            torch.nn.init.zeros_(branch[-1].bias)
    model.save("best.pt")


def yolo(*words):
    """`yolo WORDS`: the command's own entry point."""
    entrypoint(" ".join(["yolo", *words]))


def predict(file, task):
    """Every box: which ones non-maximum suppression drops hangs on the last bit where random boxes overlap."""
    return YOLO(file, task=task)(PICTURE, imgsz=SIZE, conf=1e-5, iou=1.0, verbose=False)[0]


CASES = [
    # task, suffix of their yaml, activation, further words of `yolo export`, the least parity of boxes in pixels
    ("detect", "", AGLU, [], 2e-2),
    ("detect", "", AGLU, ["dynamic=True"], 2e-2),
    ("segment", "-seg", AGLU, ["half=True"], 8.0),
    ("pose", "-pose", Unit, [], 2e-2),
    ("classify", "-cls", AGLU, [], 2e-2),
]


@pytest.mark.parametrize(("task", "suffix", "activation", "words", "pixels"), CASES)
def test_predicts_as_before(task, suffix, activation, words, pixels, capsys):
    write_checkpoint(suffix, activation())
    yolo("export", "model=best.pt", "format=onnx", f"imgsz={SIZE}", *words)
    shape = ["--input-shape", f"3x{SIZE}x{SIZE}"] if "dynamic=True" in words else []
    assert main(["best.onnx", "--explain", *shape]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    kind = "APA" if activation is AGLU else "AGLU"
    assert f".act: {kind}, lambda" in said.out + said.err
    theirs, ours = (predict(file, task) for file in ("best.onnx", "best.apa.onnx"))
    assert theirs.names == ours.names
    if task == "classify":
        np.testing.assert_allclose(ours.probs.data, theirs.probs.data, rtol=1e-4)
        return
    assert len(theirs.boxes) == len(ours.boxes) > 9
    compare_boxes(theirs, ours, pixels)


def compare_boxes(theirs, ours, pixels):
    """Equal scores may change places, and a box whose two best classes are as good its class."""
    left, same_class = ours.boxes.data.clone(), []
    for box in theirs.boxes.data:
        distance = (left - box)[:, :4].abs().amax(1) + (left[:, 5] != box[5]) * pixels / 2
        nearest = int(distance.argmin())
        assert distance[nearest] < pixels * 1.5 and abs(left[nearest, 4] - box[4]) < 1e-2
        same_class.append(bool(left[nearest, 5] == box[5]))
        left[nearest] = 1e9
    assert np.mean(same_class) > 0.9
