"""The options of `--format onnx` and `onnx-custom`, and those of every graph that a target is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from apa_deploy.choices import DECOMPOSITIONS, PRECISIONS

from ..options import batch_option, option
from ..target import Outcome, Source, Target

if TYPE_CHECKING:
    from apa_deploy.network import Network


@dataclass(frozen=True)
class VerificationOptions:
    """`inputs`: an `.npz` to verify on, or None for seeded inputs. `force`: replace files that are there."""

    group: ClassVar[str] = "verification"

    verify: bool = option(True, "skip the parity gate", flag="--no-verify")
    inputs: Path | None = option(None, "verify on these: an array an input, by its name", type=Path, metavar="NPZ")
    force: bool = option(False, foreign=True)


@dataclass(frozen=True)
class GraphOptions(VerificationOptions):
    """`decomposition`: one of DECOMPOSITIONS. `half_io`: inputs and outputs in `precision` too."""

    group: ClassVar[str] = "graph"

    opset: int = option(18, "18 (default) to 23", type=int)
    decomposition: str = option(
        "anl",
        "of activations: anl (default), Exp(-|t|) and a polynomial, accurate and fused; softplus, short to read",
        choices=DECOMPOSITIONS,
    )
    precision: str = option("fp32", "of the graph (default: fp32)", choices=PRECISIONS)
    half_io: bool = option(False, "inputs and outputs in that precision too")

    def as_onnx(self, format: str, batch: int | None, **changes: Any) -> OnnxOptions:
        """The same with `changes`, for a file of this format."""
        mine = {one.name: getattr(self, one.name) for one in fields(GraphOptions)}
        return OnnxOptions(**(mine | changes), format=format, batch=batch)


@dataclass(frozen=True)
class OnnxOptions(GraphOptions):
    """`format`: onnx or onnx-custom. `batch` None: dynamic."""

    format: str = "onnx"
    batch: int | None = batch_option(None, takes=int)


def _export(source: Source, output: Path, options: OnnxOptions, format: str) -> Outcome:
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
