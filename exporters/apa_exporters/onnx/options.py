"""The options of `--format onnx` and `onnx-custom`, and those of every graph that a target is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from apa_deploy.choices import CALIBRATIONS, DECOMPOSITIONS, INT8, PRECISIONS
from apa_deploy.cli.common import count_of, limit_of

from ..options import batch_option, nest, option
from ..target import ExportSource, Outcome, Target

if TYPE_CHECKING:
    from apa_deploy.network import Network


@dataclass(frozen=True)
class VerificationOptions:
    """`inputs`: an `.npz` to verify on, or None for seeded inputs. `force`: replace files that are there."""

    group: ClassVar[str] = "verification"

    verify: bool = option(True, "do not compare the result with the network", flag="--no-verify")
    inputs: Path | None = option(
        None, "compare on these: one array per input, by its name", type=Path, metavar="NPZ"
    )
    force: bool = option(False, shared=True)


@dataclass(frozen=True)
class CodingOptions:
    """Of the 8-bit precisions. `data`: what to calibrate on; `reduced`: 7-bit weights, None: by the processor."""

    group: ClassVar[str] = "8 bits"

    data: str | None = option(
        None,
        "samples of typical inputs: .npz (one array per input; y: labels), .npy, a folder of images, or a function",
        flag="--calibration",
        metavar="DATA",
    )
    method: str = option(
        "minmax", "how ranges are chosen (default: minmax)", flag="--calibration-method", choices=CALIBRATIONS
    )
    samples: int = option(
        256, "use at most N samples (default: 256)", flag="--calibration-samples", type=count_of, metavar="N"
    )
    keep_float: tuple[str, ...] = option(
        (), "layers that stay float32, by name", read=tuple, action="append", metavar="GLOB"
    )
    auto_keep_float: int = option(
        0, "keep the N weakest layers float32", type=partial(count_of, least=0), metavar="N"
    )
    min_sqnr: float = option(
        25.0, "least signal-to-noise ratio of an output (default: 25)", type=limit_of, metavar="DB"
    )
    reduced: bool | None = option(
        None, "7-bit weights, for processors without VNNI", flag="--reduce-range", action="store_true"
    )
    libraries: tuple[Path, ...] = option(
        (),
        "library of other custom operators that the model needs",
        flag="--ort-library",
        type=Path,
        read=tuple,
        action="append",
        metavar="SO",
    )


@dataclass(frozen=True)
class GraphOptions(VerificationOptions):
    """`decomposition`: one of DECOMPOSITIONS. `half_io`: inputs and outputs in `precision` too."""

    group: ClassVar[str] = "graph"

    opset: int = option(18, "ONNX opset, 18 (default) to 23", type=int)
    decomposition: str = option(
        "anl",
        "anl (default): Exp(-|t|) and a polynomial, accurate and fused; softplus: short to read",
        choices=DECOMPOSITIONS,
    )
    precision: str = option(
        "fp32",
        "number type of the graph (default: fp32). int8 and fp8 need --calibration; auto, of trt, is the fastest "
        "of fp16, int8 and fp8 that passes the checks",
        choices=(*PRECISIONS, INT8),
    )
    half_io: bool = option(False, "inputs and outputs in that precision too")
    coding: CodingOptions = nest(CodingOptions)

    def as_onnx(self, format: str, batch: int | None, **changes: Any) -> OnnxOptions:
        """The same with `changes`, for a file of this format."""
        mine = {one.name: getattr(self, one.name) for one in fields(GraphOptions)}
        return OnnxOptions(**(mine | changes), format=format, batch=batch)


@dataclass(frozen=True)
class OnnxOptions(GraphOptions):
    """`format`: onnx or onnx-custom. `batch` None: dynamic. `placement`: "cpu" or "tensorrt", of 8-bit codes."""

    format: str = "onnx"
    batch: int | None = batch_option(None, takes=int)
    placement: str = "cpu"


def _export(source: ExportSource, output: Path, options: OnnxOptions, format: str) -> Outcome:
    from .export import export_onnx

    network, options = source.load(), replace(options, format=format)
    return Outcome(output, export_onnx(network, output, options), partial(_speed_up, network, output, options))


def _speed_up(network: Network, output: Path, options: OnnxOptions) -> Iterator[str]:
    """For an .onnx file that was made faster, by how much."""
    from .export import custom_library
    from .from_onnx import measure_speed_up

    if options.precision == "fp32" and options.verify and network.activations and (before := network.session):
        library = custom_library() if options.format == "onnx-custom" else None
        yield measure_speed_up(before, network, output, options.batch, library)


_SUFFIXES = {"onnx": ".onnx", "onnx-custom": ".custom.onnx"}
FORMATS = tuple(_SUFFIXES)
TARGETS = tuple(
    Target(name, suffix, OnnxOptions, partial(_export, format=name)) for name, suffix in _SUFFIXES.items()
)
FORMATS = tuple(target.name for target in TARGETS)
