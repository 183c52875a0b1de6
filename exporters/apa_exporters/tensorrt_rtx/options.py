"""The options of `--format trt-rtx`."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..engine_options import EngineOptions
from ..options import option
from ..target import ExportSource, Outcome, Target

FORMAT = "trt-rtx"


def _capabilities(text: str) -> tuple[str, ...]:
    capabilities = tuple(text.split(","))
    if not all(re.fullmatch(r"\d+\.\d", one) for one in capabilities):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted e.g. 8.6,8.9,12.0")
    return capabilities


@dataclass(frozen=True)
class RtxOptions(EngineOptions):
    """`capabilities`: such as "8.6"; none for an engine that runs on 8.0 and later."""

    group: ClassVar[str] = "TensorRT for RTX"

    capabilities: tuple[str, ...] = option(
        (), "GPUs (default: 8.0 and later)", flag="--compute-capability", type=_capabilities, metavar="8.6,8.9"
    )


def _export(source: ExportSource, output: Path, options: RtxOptions) -> Outcome:
    from .export import export_rtx

    return Outcome(output, export_rtx(source.load(), output, options))


TARGET = Target(FORMAT, ".engine", RtxOptions, _export)
