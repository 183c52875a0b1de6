"""What `--format trt` may be told, and what goes together: checked before long work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from apa_deploy.errors import InputError
from apa_deploy.loading.load import InputSpec, Shape
from apa_deploy.parity.inputs import INPUT, Feed

from ..onnx.export import OnnxOptions
from ..onnx.from_onnx import BATCHES
from .on_target.recipe import DECOMPOSED, PLUGIN

AUTO = "auto"
ACTIVATIONS = (AUTO, PLUGIN, DECOMPOSED)
LEVELS = ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")


@dataclass(frozen=True)
class TrtOptions:
    """`graph`: of the ONNX files inside; its `format` and `batch` are not read.

    `batches`: least, usual and largest batch, all equal for a fixed one; `images`: the same of (C, H, W), or None
    for the model's own size alone. `workspace`: bytes. `hardware_compatible`: one of LEVELS. `timing_cache`: a file
    to read and to extend. `embed_plugin`: put the plugin's code into the engine. `runs`: of each engine, timed.
    """

    graph: OnnxOptions = field(default_factory=OnnxOptions)
    activation: str = AUTO
    batches: tuple[int, int, int] = BATCHES
    images: tuple[Shape, Shape, Shape] | None = None
    workspace: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: str | None = None
    strip_weights: bool = False
    embed_plugin: bool = False
    timing_cache: Path | None = None
    runs: int = 400

    @property
    def fixed_batch(self) -> int | None:
        """The batch, where there is but one."""
        return self.batches[0] if self.batches[0] == self.batches[2] else None


def check_trt_options(options: TrtOptions) -> None:
    """Raise an `InputError` for what makes no sense, or does not go together."""
    _check_rising("--batch", options.batches, [options.batches])
    if options.images:
        _check_rising("--shapes", options.images, list(zip(*options.images, strict=True)))
    if options.graph.half_io and options.graph.precision == "bf16":
        saw = "--half-io with --precision bf16"
        raise InputError(saw, "float32 or fp16 at the ends", "numpy has no bfloat16 to feed: leave --half-io out.")
    if options.embed_plugin and options.activation == DECOMPOSED:
        raise InputError("--embed-plugin with --activation decomposed", "a plugin", "Leave one of them out.")
    if options.runs < 2:
        raise InputError(f"--latency-runs {options.runs}", "2 or more", "400 is usual.")
    if options.optimization_level is not None and not 0 <= options.optimization_level <= 5:
        raise InputError(f"--optimization-level {options.optimization_level}", "0 to 5", "3 is TensorRT's own.")


def _check_rising(option: str, given: Sequence[object], axes: Sequence[tuple[int, ...]]) -> None:
    if not all(1 <= least <= usual <= largest for least, usual, largest in axes):
        said = ":".join("x".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in given)
        raise InputError(f"{option} {said}", "1 <= MIN <= OPT <= MAX on every axis", "Give them in this order.")


def profile(options: TrtOptions, spec: InputSpec, feed: Feed) -> dict[str, list[list[int]]]:
    """The optimization profile: least, usual and largest shape of each input of `feed`; `spec`: of an image."""
    if options.images:
        samples = [InputSpec(image, spec.channels_last).shape for image in options.images]
        return {INPUT: [[batch, *sample] for batch, sample in zip(options.batches, samples, strict=True)]}
    return {name: [[batch, *array.shape[1:]] for batch in options.batches] for name, array in feed.items()}


def check_dynamic(shapes: dict[str, list[list[int]]], model: onnx.ModelProto) -> None:
    """Raise an `InputError` where a profile wants sizes that the traced network does not take."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, (dim, sizes) in enumerate(zip(dims, zip(*shapes[value.name], strict=True), strict=True)):
            if dim.HasField("dim_value") and set(sizes) != {dim.dim_value}:
                saw = f"axis {axis} of {value.name} from {sizes[0]} to {sizes[2]}"
                raise InputError(saw, f"{dim.dim_value}, which the network fixes", "Leave --shapes out.")
