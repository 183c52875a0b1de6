"""A network of your own, from training to a verified file:  python examples/own_network.py"""

from pathlib import Path

import numpy as np
import torch
from apa_exporters.cli import main as apa_export
from torch import nn
from torch.nn.functional import cross_entropy, softplus

import apa_deploy


class AGLU(nn.Module):
    """The activation with its two learned numbers; use it in place of ReLU."""

    def __init__(self):
        super().__init__()
        self.lambda_param, self.kappa_param = nn.Parameter(torch.rand(1)), nn.Parameter(torch.ones(1))

    def forward(self, x):
        lam = self.lambda_param.clamp(min=1e-4)
        return x * torch.exp(softplus(self.kappa_param * x - lam.log(), beta=-1.0) / lam)


def network():
    """Images N x 1 x 8 x 8 to logits N x 10."""
    layers = [nn.Conv2d(1, 32, 3, padding=1), AGLU(), nn.Conv2d(32, 32, 3, stride=2), AGLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))


def digits():
    """Real handwritten digits in random order: images from 0 to 1, labels."""
    with np.load(Path(__file__).parent / "digits" / "held_out.npz") as stored:
        order = np.random.default_rng(0).permutation(len(stored["labels"]))
        return np.float32(stored["images"][order, None] / 16), stored["labels"][order].astype(np.int64)


def train(steps=150):
    """The trained network, in eval mode; the last 100 images are not used."""
    torch.manual_seed(0)
    images, labels = (torch.from_numpy(array[:-100]) for array in digits())
    trained = network()
    optimizer = torch.optim.Adam(trained.parameters(), 0.01)
    for _ in range(steps):
        loss = cross_entropy(trained(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trained.eval()


def exported(*options, name="own.onnx"):
    """The path of the exported network in this folder; trains only if there are no weights yet."""
    if not Path("own.pth").exists():
        torch.save(train().state_dict(), "own.pth")
    command = ["own.pth", "--model", "own_network:network", "--input-shape", "1x8x8", "-o", name, "--force"]
    if code := apa_export([*command, *options]):
        raise SystemExit(code)
    return Path(name)


if __name__ == "__main__":
    with apa_deploy.Session(exported()) as session:
        images, labels = digits()
        right = session.run({"input": images[-100:]})["logits"].argmax(1) == labels[-100:]
        print(f"own.onnx labels {right.mean():.0%} of 100 unseen digits")
