"""The part of `apa-export` that is for `--format trt`: its options, and what it prints."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from apa_deploy.cli.model_options import shape_of
from apa_deploy.loading.load import Model, Shape
from apa_deploy.records.passport import Passport

from ..onnx.export import OnnxOptions
from .bundle import trtexec_lines
from .export import export_bundle, export_trt
from .options import ACTIVATIONS, AUTO, LEVELS, TrtOptions
from .trtexec import load_line

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_RUNS = 400


def add_trt_options(group: argparse._ArgumentGroup) -> None:
    """Those that only this format has."""
    group.add_argument("--bundle", type=Path, metavar="DIR", help="write what another machine needs to build it")
    group.add_argument("--activation", choices=ACTIVATIONS, help="auto (default): the faster one that is right")
    group.add_argument("--shapes", type=_shapes, metavar="MIN:OPT:MAX", help="of an image, each CxHxW")
    group.add_argument("--workspace", type=_size, metavar="SIZE", help="the builder's, e.g. 4G")
    group.add_argument("--optimization-level", type=int, metavar="N", help="0 to 5 (TensorRT's own default: 3)")
    group.add_argument("--timing-cache", type=Path, metavar="FILE", help="read it, and add what was learned")
    group.add_argument("--latency-runs", type=int, metavar="N", help=f"of each engine (default: {_RUNS})")
    group.add_argument("--version-compatible", action="store_true", help="for later versions of TensorRT too")
    group.add_argument(
        "--hardware-compatible", nargs="?", const=LEVELS[0], choices=LEVELS, help=f"other GPUs too ({LEVELS[0]})"
    )
    group.add_argument("--embed-plugin", action="store_true", help="put the plugin's code into the engine")


def given_trt_options(options: argparse.Namespace) -> dict[str, object]:
    """Each of them with what was given, which is false where nothing was."""
    return {
        "--bundle": options.bundle,
        "--activation": options.activation,
        "--shapes": options.shapes,
        "--workspace": options.workspace,
        "--optimization-level": options.optimization_level is not None,
        "--timing-cache": options.timing_cache,
        "--latency-runs": options.latency_runs,
        "--version-compatible": options.version_compatible,
        "--hardware-compatible": options.hardware_compatible,
        "--embed-plugin": options.embed_plugin,
    }


def trt_options(graph: OnnxOptions, batches: tuple[int, int, int], options: argparse.Namespace) -> TrtOptions:
    """The options as the export takes them."""
    return TrtOptions(
        graph=graph,
        activation=options.activation or AUTO,
        batches=batches,
        images=options.shapes,
        workspace=options.workspace,
        optimization_level=options.optimization_level,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        strip_weights=options.strip_weights,
        embed_plugin=options.embed_plugin,
        timing_cache=options.timing_cache,
        runs=options.latency_runs or _RUNS,
    )


def made_trt(model: Model, output: Path, trt: TrtOptions, options: argparse.Namespace) -> Passport:
    """The engine, or its bundle; prints what to do with it."""
    if not options.bundle:
        passport = export_trt(model, output, trt)
        if not options.json:
            print(f"to time it with NVIDIA's own program:\n  {load_line(output, passport)}")
        return passport
    recipe, passport = export_bundle(model, options.bundle, output.name, trt)
    if not options.json:
        print(f"{options.bundle}: on a machine with a GPU, run: python3 build.py\nor, in that folder:")
        print("\n".join(f"  {line}" for line in trtexec_lines(recipe)))
    return passport


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
