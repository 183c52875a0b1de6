"""The options of `--format openvino`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..onnx.options import CodingOptions, GraphOptions
from ..options import batch_option, option
from ..target import ExportSource, Outcome, Target

FORMAT = "openvino"


@dataclass(frozen=True)
class OpenVinoOptions(GraphOptions):
    """`precision`: in which the weights are stored; it computes in float32. `batch` None: dynamic."""

    precision: str = option("fp32", choices=("fp32", "fp16"))
    half_io: bool = False  # no option here: inputs and outputs are float32
    coding: CodingOptions = CodingOptions()  # nor this: in 8 bits it is no faster (docs/int8.md)
    batch: int | None = batch_option(None, takes=int)


def _export(source: ExportSource, output: Path, options: OpenVinoOptions) -> Outcome:
    from .export import export_openvino

    return Outcome(output, export_openvino(source.load(), output, options))


TARGET = Target(FORMAT, ".xml", OpenVinoOptions, _export)
