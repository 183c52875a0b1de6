"""What a deployer bakes into the graph around the network: pixels in, adjusted scores out.

uint8 pixels -> preprocess -> network -> + IIF constants -> softmax
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..errors import InputError
from ..network import Network
from ..tensors.signature import Signature, image_spec
from .counts import LONG_TAILED, class_counts, labels_of
from .iif import constants
from .pixels import Pixels, pixels_of

__all__ = ["Deployment", "deploy"]


@dataclass(frozen=True)
class Deployment:
    """The options of `apa-export`; the default changes nothing.

    `preprocess`: imagenet, cifar, mmdet, or a JSON file. `layout`: nhwc or nchw. `channels`: rgb or bgr, the
    order in which the caller's pixels come. `iif`: a variant of iif.VARIANTS, with `counts`, a file.
    """

    preprocess: str | None = None
    layout: str = "nhwc"
    channels: str | None = None
    iif: str | None = None
    counts: Path | None = None
    softmax: bool = False
    labels: Path | None = None


def deploy(network: Network, options: Deployment) -> Network:
    """`network` with the options around it; the network itself stays as it is.

    Raises:
        InputError: an option is unusable, or does not fit the network's outputs.
    """
    classes = _classes(network)
    pixels = pixels_of(options.preprocess, options.layout, options.channels) if options.preprocess else None
    offsets = constants(options.iif, _counts(options, classes)) if options.iif else None
    metadata = dataclasses.replace(network.metadata)
    if options.labels:
        metadata.labels = labels_of(options.labels, classes)
        metadata.notices += _label_order(metadata.arguments.get("dset_name"))
    if pixels:
        recipe = Path(options.preprocess or "").stem
        metadata.pixels = {"preprocess": recipe, "layout": pixels.layout, "channels": pixels.channels}
    if not (pixels or offsets is not None or options.softmax):
        return network.with_metadata(metadata)
    if pixels and metadata.detector and offsets is None and not options.softmax:
        described = network.with_metadata(metadata)
        return described.with_pixels(options.preprocess or "", pixels.layout, pixels.channels)
    if (offsets is not None or options.softmax) and _is_backbone(network):
        saw = f"--iif or --softmax for the backbone {metadata.architecture}"
        raise InputError(saw, "a network that answers with class scores", "Leave it out.")
    if options.softmax and metadata.output_names:
        names = ("probabilities" if name.startswith("logits") else name for name in metadata.output_names)
        metadata.output_names = tuple(_number_names(list(names)))
    signature = network.signature
    if pixels:
        spec = image_spec(network.input_shape, channels_last=options.layout == "nhwc", dtype="uint8")
        signature = Signature((spec,))
    given = next(f"--{name}" for name in ("preprocess", "iif", "softmax") if getattr(options, name))
    softmax = options.softmax

    def wrapper(module: nn.Module) -> nn.Module:
        return Deployed(module, pixels, offsets, softmax).train(False)

    return network.with_metadata(metadata).wrap(given, wrapper, signature)


class Deployed(nn.Module):
    """A network between its pre- and post-processing; heads are treated alike."""

    offsets: Tensor | None

    def __init__(self, network: nn.Module, pixels: Pixels | None, offsets: Tensor | None, softmax: bool) -> None:
        super().__init__()
        self.network, self.pixels, self.softmax = network, pixels, softmax
        self.register_buffer("offsets", offsets)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        y = self.network(self.pixels(x) if self.pixels else x)
        if isinstance(y, Tensor):
            return self._scores(y)
        classes = y[0].shape[-1]  # contrastive features beside the logits stay as they are
        return tuple(self._scores(one) if one.shape[-1] == classes else one for one in y)

    def _scores(self, y: Tensor) -> Tensor:
        if self.offsets is not None:
            if y.shape[-1] != self.offsets.shape[-1]:
                raise ValueError(f"{y.shape[-1]} logits and {self.offsets.shape[-1]} class counts")
            y = y + self.offsets
        return y.softmax(dim=1) if self.softmax else y


def _classes(network: Network) -> int | None:
    """How many classes the network tells apart; None where only a run would tell."""
    spec = network.metadata.spec
    return spec.heads[0].classes if spec and spec.heads else None


def _is_backbone(network: Network) -> bool:
    return bool(network.metadata.spec and network.metadata.spec.backbone)


def _counts(options: Deployment, classes: int | None) -> list[int]:
    if options.counts is None:
        raise InputError(
            "--iif without --class-counts", "the training images of each class", "Give a file of counts."
        )
    return class_counts(options.counts, classes)


def _label_order(dataset: object) -> tuple[str, ...]:
    if dataset not in LONG_TAILED:
        return ()
    return (
        f"{dataset} training renumbers classes by descending frequency, and the map is not in the checkpoint: "
        "labels must be in that order, not in the dataset's; classes of equal frequency cannot be distinguished",
    )


def _number_names(names: list[str]) -> list[str]:
    """Names made unique: two heads become probabilities1 and probabilities2."""
    return [f"{name}{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]
