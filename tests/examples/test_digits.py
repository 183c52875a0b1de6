"""examples/digits: the committed checkpoint is what the README says, exported and run."""

import sys
from pathlib import Path

import pytest
import torch
from apa_exporters.onnx.export import export_onnx
from apa_exporters.onnx.options import FORMATS, OnnxOptions

import apa_deploy

FOLDER = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def split():
    sys.path.insert(0, str(FOLDER))
    from data import held_out, split_digits

    training, test = split_digits()
    counts = torch.bincount(training.labels)
    assert counts[0] > 8 * counts[-1]  # a long tail
    stored = held_out()
    assert torch.equal(stored.images, test.images) and torch.equal(stored.labels, test.labels)
    return stored


def test_checkpoint_is_upstreams_and_small():
    assert (FOLDER / "digits.pth").stat().st_size <= 2_500_000
    content = torch.load(FOLDER / "digits.pth", weights_only=False)
    assert set(content) == {"model", "optimizer", "epoch", "args"}
    assert not content["optimizer"]["state"]


@pytest.mark.parametrize("format", FORMATS)
def test_exports_label_the_held_out_digits(format, split, tmp_path):
    model = apa_deploy.load(FOLDER / "digits.pth")
    assert export_onnx(model, tmp_path / "m.onnx", OnnxOptions(format=format)).parity.passed
    with apa_deploy.Session(tmp_path / "m.onnx") as session:
        labels = session.run({"input": split.images.numpy()})["logits"].argmax(1)
    with torch.inference_mode():
        assert (labels == model.module(split.images).argmax(1).numpy()).mean() >= 0.99
    assert (labels == split.labels.numpy()).mean() >= 0.96
