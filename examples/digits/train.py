"""Train se_resnet32 with AGLU and APA on the long-tailed digits; write a checkpoint in upstream's format.

python examples/digits/train.py examples/digits/digits.pth      (about ten minutes on two cores)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from apa_deploy.architectures.activations import Learned
from apa_deploy.architectures.resnet import ResNet
from apa_deploy.architectures.spec import Head, Spec

sys.path.insert(0, str(Path(__file__).parent))
from data import CLASSES, Split, held_out, long_tailed

SPEC = Spec(
    cifar=True,
    bottleneck=False,
    depths=(5, 5, 5),
    in_channels=3,
    widths=(16, 32, 64),
    groups=1,
    base_width=64,
    gate="se",
    learned_units=True,
    learned_channel_gate=True,
    learned_spatial_gate=False,
    normed_gate=True,
    reduction=4,
    heads=(Head("linear", "linear", 64, CLASSES),),
    contrastive=0,
    unit_floor="relu+1e-8",
)


class Trainable(Learned):
    """`Learned` with gradients: the deployed class evaluates constants."""

    def forward(self, x: Tensor) -> Tensor:
        raw = self.lambda_param
        lambda_ = raw.relu() + 1e-8 if self.floor == "relu+1e-8" else raw.clamp(min=1e-4)
        gate = torch.exp(-softplus(lambda_.log() - self.kappa_param * x) / lambda_)
        return x * gate if self.kind == "AGLU" else gate


def trainable_network() -> ResNet:
    """The network with its parameters as upstream initialises them."""
    network = ResNet(SPEC)
    for module in network.modules():
        if isinstance(module, Learned):
            module.__class__ = Trainable
            module.lambda_param.data.uniform_(0, 1)
            low, high = (0.8, 1.2) if module.kind == "AGLU" else (-1.0, 0.0)
            module.kappa_param.data.uniform_(low, high)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def optimiser(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """SGD without weight decay on lambda and kappa, as upstream trains them."""
    learned = [p for name, p in network.named_parameters() if name.endswith(("lambda_param", "kappa_param"))]
    rest = [p for name, p in network.named_parameters() if not name.endswith(("lambda_param", "kappa_param"))]
    groups = [{"params": rest, "weight_decay": 5e-4}, {"params": learned, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)


def train(epochs: int, rate: float = 0.1, batch: int = 32) -> ResNet:
    """Train and report each epoch; returns the network in eval mode."""
    torch.set_flush_denormal(True)  # gates in their far tail are denormal, and those are slow
    torch.manual_seed(0)
    network, split = trainable_network(), long_tailed()
    steps = epochs * (len(split.labels) // batch)
    optimizer = optimiser(network, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    for epoch in range(epochs):
        network.train()
        order = torch.randperm(len(split.labels))
        for start in range(0, len(order) - batch + 1, batch):
            index = order[start : start + batch]
            loss = cross_entropy(network(shifted(split.images[index])), split.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(
            f"epoch {epoch + 1}/{epochs}: held-out accuracy {accuracy(network.eval(), held_out()):.2%}", flush=True
        )
    return network.eval()


def shifted(images: Tensor) -> Tensor:
    """Augment: each image moved by up to four pixels."""
    padded = nn.functional.pad(images, (4, 4, 4, 4), mode="replicate")
    moves = torch.randint(0, 9, (len(images), 2)).tolist()
    return torch.stack([padded[i, :, y : y + 32, x : x + 32] for i, (y, x) in enumerate(moves)])


@torch.inference_mode()
def accuracy(network: nn.Module, split: Split) -> float:
    """Fraction of `split` that `network` labels rightly."""
    return float((network(split.images).argmax(1) == split.labels).float().mean())


def checkpoint(network: nn.Module, epochs: int) -> dict[str, object]:
    """Upstream's layout; the optimizer's state is left empty, for it deploys nothing."""
    arguments = argparse.Namespace(
        model="se_resnet32", dset_name="digits", classif_norm=None, use_gumbel_se=True, use_gumbel_cb=False,
        criterion="ce", iif="rel", epochs=epochs, imb_type="exp", imb_factor=0.1,
    )  # fmt: skip
    state = {"state": {}, "param_groups": []}
    return {"model": network.state_dict(), "optimizer": state, "epoch": epochs - 1, "args": arguments}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    torch.save(checkpoint(train(options.epochs), options.epochs), options.output)


if __name__ == "__main__":
    main()
