"""A detector as a `Network`: its backbone is traced, the rest of its graph is written from the spec.

The torch rebuild, which shares no code with that graph, is the truth.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from typing import NoReturn

from torch import nn

from ..detection.graph import FEATURES, PAIRS, TENSORRT_PAIRS, DetectorGraphOptions, append_detector
from ..detection.module import Detector
from ..detection.pictures import network_input
from ..detection.rows import ROW_LIMITS, Rows
from ..detection.spec import IMAGES, VALID
from ..errors import InputError
from ..graph.node import is_activation
from ..graph.sites import ActivationSite, site_of_node
from ..network import TRUTH, Exchange, Metadata, Network, Trace
from ..tensors.signature import BATCH, Feed, Shape, Signature, TensorSpec, image_signature, image_spec
from .torch_network import TorchNetwork

_BACKBONE = "backbone."


def detector_signature(image: Shape) -> Signature:
    """What a detector takes: normalised images, and the width and height of each without its padding."""
    sizes = TensorSpec(VALID, "float32", (BATCH, 2), (2,))
    return Signature((image_spec(image, name=IMAGES), sizes), photograph=True)


class DetectorNetwork(TorchNetwork):
    """`module`: the whole detector; its `raw` chooses between detections and what comes before scores and decoding.

    `pairs`: of RoI and class that reach the last NMS of a graph. `pixels`: layout and order of channels where it
    takes the bytes of pictures instead, all of one size, and normalises and pads them itself.
    """

    _module: Detector
    pairs = PAIRS
    pixels: tuple[str, str] | None = None

    @property
    def module(self) -> Detector:
        return self._module

    @property
    def rows(self) -> Rows:
        spec = self._module.detector
        return Rows(spec.nms_iou, spec.score_thr, {} if self._module.raw else ROW_LIMITS)

    def evaluation(self, dtype: str) -> Detector:
        module = super().evaluation(dtype)
        assert isinstance(module, Detector)
        return module

    def find_randomness(self, feed: Feed) -> tuple[str, ...]:
        """Nothing: every part of it is ours, and none draws numbers."""
        return ()

    @cached_property
    def learned(self) -> tuple[ActivationSite, ...]:
        """Its modules', which are ours: nothing has to be traced for them."""
        return self.activations

    @cached_property
    def _of_floats(self) -> DetectorNetwork:
        """Kept, and with it its answers and its float64 weights."""
        return DetectorNetwork(self._module, detector_signature(self.signature.first.image), self.metadata)

    @cached_property
    def _answers(self) -> dict[tuple[object, ...], Feed]:
        return {}

    def with_metadata(self, metadata: Metadata) -> DetectorNetwork:
        other = DetectorNetwork(self._module, self.signature, metadata)
        other.pairs, other.pixels = self.pairs, self.pixels
        return other

    def without_masks(self) -> DetectorNetwork:
        names = tuple(name for name in self.output_names if name != "masks")
        other = self.with_metadata(dataclasses.replace(self.metadata, output_names=names))
        other._module = copy.copy(self._module)  # the weights are the same ones
        other._module.detector = dataclasses.replace(self._module.detector, masks=())
        return other

    def for_tensorrt(self) -> DetectorNetwork:
        other = self.with_metadata(self.metadata)
        other.pairs = TENSORRT_PAIRS
        assert self.metadata.detector is not None
        other.metadata = dataclasses.replace(
            self.metadata, detector=self.metadata.detector | {"pairs": TENSORRT_PAIRS}
        )
        return other

    def with_pixels(self, preprocess: str, layout: str, channels: str) -> Network:
        if preprocess != "mmdet":
            return super().with_pixels(preprocess, layout, channels)
        other = self.with_metadata(self.metadata)
        image = image_spec(self.signature.first.image, channels_last=layout == "nhwc", dtype="uint8", name=IMAGES)
        other.signature, other.pixels = Signature((image,), photograph=True), (layout, channels)
        return other

    def normalise(self, feed: Feed) -> Feed:
        """What the module takes: `feed` itself, or its bytes normalised and padded."""
        if not self.pixels:
            return feed
        layout, channels = self.pixels
        pictures = feed[IMAGES] if layout == "nhwc" else feed[IMAGES].transpose(0, 2, 3, 1)
        images, valid = network_input(list(pictures), self._module.detector, rgb=channels == "rgb")
        return {IMAGES: images, VALID: valid}

    def outputs(self, feed: Feed, dtype: str = TRUTH, exchange: Exchange | None = None) -> Feed:
        if self.pixels:
            return self._of_floats.outputs(self.normalise(feed), dtype, exchange)
        if exchange:
            return super().outputs(feed, dtype, exchange)
        # several gates ask about the same picture, of which float64 takes a minute
        key = (dtype, *(blake2b(array.tobytes()).digest() for array in feed.values()))
        if key not in self._answers:
            self._answers[key] = super().outputs(feed, dtype)
        return dict(self._answers[key])

    def trace(self, opset: int = 18, batch: int | None = None) -> Trace:
        backbone = self._module.backbone
        names = tuple(f"stage{i + 1}" for i in range(4))
        metadata = Metadata(self.metadata.architecture, output_names=names)
        # any size will do: height and width stay open
        traced = TorchNetwork(backbone, image_signature(self.signature.first.image), metadata).trace(opset, batch)
        weights = {k: v.numpy() for k, v in self._module.state_dict().items() if not k.startswith(_BACKBONE)}
        for node in traced.proto.graph.node:
            if is_activation(node):
                node.name = _BACKBONE + node.name
        options = DetectorGraphOptions(raw=self._module.raw, pairs=self.pairs, pixels=self.pixels)
        proto = append_detector(traced.proto, self._module.detector, weights, options)
        sites = tuple(site_of_node(node) for node in proto.graph.node if is_activation(node))
        found = tuple(dataclasses.replace(one, path=_BACKBONE + one.path) for one in traced.activations)
        return dataclasses.replace(
            traced, proto=proto, sites=sites, activations=found, output_names=self.output_names, features=FEATURES
        )

    def wrap(self, options: str, wrapper: Callable[[nn.Module], nn.Module], signature: Signature) -> NoReturn:
        saw = f"{options} with the detector {self.metadata.architecture}"
        raise InputError(saw, "a network that answers with class scores", "Leave it out.")
