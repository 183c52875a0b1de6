"""`--precision auto`: which precisions are tried, with which options, and what is asked of these."""

from __future__ import annotations

from dataclasses import replace

from apa_deploy.errors import InputError

from ..onnx.coding import CODED, check_coding, refuse_coding
from ..onnx.options import CodingOptions
from .on_target.recipe import FP8, FP16, INT8
from .options import AMPERE_PLUS, AUTO, TrtOptions

# What needs samples first: where they do not fit, that is told before long work.
_TRIED = (INT8, FP8, FP16)


def check_open_precision(options: TrtOptions) -> None:
    """Raise an `InputError` for what does not go with `--precision auto`."""
    graph = options.graph
    if graph.precision != AUTO:
        return
    if not graph.verify:
        saw = "--no-verify with --precision auto"
        raise InputError(saw, "a gate for each precision: the fastest may be wrong", "Leave it out, or choose one.")
    if graph.coding.data is None:
        if graph.half_io:
            raise InputError("--half-io with --precision auto", "fp16 or bf16", "Leave it out, or choose one.")
        refuse_coding(graph, "--calibration")
    else:
        check_coding(graph)


def split_precision(options: TrtOptions) -> tuple[dict[str, TrtOptions], dict[str, str]]:
    """The options of each precision to try, and why not of the others; of a chosen one, what was given."""
    graph, coding = options.graph, options.graph.coding
    if graph.precision != AUTO:
        return {graph.precision: options}, {}
    if coding.data is None:
        without = "8 bits need --calibration"
        return {FP16: replace(options, graph=replace(graph, precision=FP16))}, {INT8: without, FP8: without}
    codings = {
        INT8: coding,
        FP8: replace(coding, reduced=None),
        FP16: CodingOptions(libraries=coding.libraries),
    }
    opset = max(graph.opset, *CODED.values())  # one graph serves all
    graphs = {one: replace(graph, precision=one, opset=opset, coding=codings[one]) for one in _TRIED}
    not_tried = {}
    if options.hardware_compatible == AMPERE_PLUS:
        del graphs[FP8]
        not_tried[FP8] = f"of --hardware-compatible {AMPERE_PLUS} not all GPUs have fp8"
    return {one: replace(options, graph=given) for one, given in graphs.items()}, not_tried
