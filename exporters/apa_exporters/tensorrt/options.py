"""The options of `--format trt`, and what goes together: checked before long work."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from apa_deploy.choices import FP8, INT8, PRECISIONS
from apa_deploy.cli.common import shape_of
from apa_deploy.errors import InputError

from ..engine_options import EngineGraphOptions, EngineOptions
from ..options import nest, option
from ..target import ExportSource, Outcome, Target
from .on_target.recipe import AOT, DECOMPOSED, PLUGIN, read_recipes

FORMAT = "trt"
AUTO = "auto"
ACTIVATIONS = (AUTO, PLUGIN, DECOMPOSED, AOT)
AMPERE_PLUS = "AMPERE_PLUS"
LEVELS = (AMPERE_PLUS, "SAME_COMPUTE_CAPABILITY")
Shape = tuple[int, ...]
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _shapes(text: str) -> tuple[Shape, Shape, Shape]:
    parts = text.split(":")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted MIN:OPT:MAX, e.g. 3x160x160:3x224x224:3x320x320")
    return shape_of(parts[0]), shape_of(parts[1]), shape_of(parts[2])


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)(i?B)?", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted bytes, or e.g. 512M or 4G")
    return int(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class TrtGraphOptions(EngineGraphOptions):
    """`precision` AUTO: the fastest of fp16, int8 and fp8 that passes its gate."""

    precision: str = option("fp32", choices=(*PRECISIONS, INT8, FP8, AUTO))


@dataclass(frozen=True)
class TrtOptions(EngineOptions):
    """`images`: least, usual and largest (C, H, W), or None for the model's own size alone. `workspace`: bytes.

    `hardware_compatible`: one of LEVELS. `timing_cache`: a file to read and to extend. `runs`: of each engine, to
    time it. `bundle`: a folder for another machine, instead of an engine.
    """

    group: ClassVar[str] = "TensorRT"

    graph: TrtGraphOptions = nest(TrtGraphOptions)
    bundle: Path | None = option(
        None, "write what another machine needs to build the engine", type=Path, metavar="DIR"
    )
    activation: str = option(AUTO, "auto (default): the fastest that passes the checks", choices=ACTIVATIONS)
    images: tuple[Shape, Shape, Shape] | None = option(
        None, "range of image sizes, each CxHxW", flag="--shapes", type=_shapes, metavar="MIN:OPT:MAX"
    )
    workspace: int | None = option(None, "memory of the builder, e.g. 4G", type=_size, metavar="SIZE")
    optimization_level: int | None = option(
        None, "effort of the builder, 0 to 5 (TensorRT's own default: 3)", type=int, metavar="N"
    )
    timing_cache: Path | None = option(None, "start from its timings, and add new ones", type=Path, metavar="FILE")
    runs: int = option(400, "runs of each engine (default: 400)", flag="--latency-runs", type=int, metavar="N")
    version_compatible: bool = option(False, "the engine runs in later versions of TensorRT too")
    hardware_compatible: str | None = option(
        None, f"the engine runs on other GPUs too ({LEVELS[0]})", choices=LEVELS, nargs="?", const=LEVELS[0]
    )
    allow_unknown_precision: bool = option(False, "keep an engine whose layers' types cannot be read")
    embed_plugin: bool = option(False, "put the plugin's code into the engine, version-compatible then")


def check_trt_options(options: TrtOptions) -> None:
    """Raise an `InputError` for what makes no sense, or does not go together."""
    from .precisions import check_open_precision

    check_open_precision(options)
    _check_rising("--batch", options.batches, [options.batches])
    if options.images:
        _check_rising("--shapes", options.images, list(zip(*options.images, strict=True)))
    if options.graph.half_io and options.graph.precision == "bf16":
        saw = "--half-io with --precision bf16"
        raise InputError(saw, "float32 or fp16 at the ends", "numpy has no bfloat16 to feed: leave --half-io out.")
    if options.graph.precision == FP8 and options.hardware_compatible == AMPERE_PLUS:
        saw = f"--precision fp8 with --hardware-compatible {AMPERE_PLUS}"
        raise InputError(saw, "GPUs from 8.9 on, which have fp8", "Leave one out, or use int8.")
    if options.embed_plugin and options.activation in (DECOMPOSED, AOT):
        saw = f"--embed-plugin with --activation {options.activation}"
        raise InputError(saw, "a plugin library", "Leave one of them out.")
    if options.runs < 2:
        raise InputError(f"--latency-runs {options.runs}", "2 or more", "400 is usual.")
    if options.optimization_level is not None and not 0 <= options.optimization_level <= 5:
        raise InputError(f"--optimization-level {options.optimization_level}", "0 to 5", "3 is TensorRT's own.")


def _check_rising(option: str, given: Sequence[object], axes: Sequence[tuple[int, ...]]) -> None:
    if not all(1 <= least <= usual <= largest for least, usual, largest in axes):
        said = ":".join("x".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in given)
        raise InputError(f"{option} {said}", "1 <= MIN <= OPT <= MAX on every axis", "Give them in this order.")


def _export(source: ExportSource, output: Path, options: TrtOptions) -> Outcome:
    from .bundle import bundle_lines
    from .export import export_bundle, export_trt
    from .trtexec import load_line

    if not options.bundle:
        passport = export_trt(source.load(), output, options)
        return Outcome(
            output, passport, lambda: ["to time it with NVIDIA's own program:", f"  {load_line(output, passport)}"]
        )
    _, passport = export_bundle(source.load(), options.bundle, output.name, options)
    kept = " ".join(home.name for home in read_recipes(options.bundle) if home != options.bundle)
    where = f"{options.bundle} ({kept}, to be chosen there)" if kept else str(options.bundle)
    say = [f"{where}: on a machine with a GPU, run: python3 build.py", "or, in that folder:"]
    lines = [f"  {line}" for line in bundle_lines(options.bundle)]
    return Outcome(options.bundle, passport, lambda: [*say, *lines])


TARGET = Target(FORMAT, ".engine", TrtOptions, _export)
