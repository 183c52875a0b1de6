"""Verify a detector's file: `gate` on every runner of this machine, and each activation alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from ..graph.emulate import emulate_halves
from ..graph.read import read_graph
from ..graph.sites import ActivationSite
from ..network import FLOAT32, TRUTH
from ..parity.model_gate import explain_no_verdict
from ..parity.operator_gate import check_activations
from ..parity.session_runner import SessionRunner
from ..records.parity import DetectionCheck, OutputCheck, ParityReport
from ..tensors.signature import Feed
from .gate import Reference, check_detections, check_raw, cut_at, run_raw, run_reference

if TYPE_CHECKING:
    from ..loading.detector_network import DetectorNetwork

_OWN_ROIS = "rois0/made"


def verify_detector(
    path: Path,
    network: DetectorNetwork,
    sites: Sequence[ActivationSite],
    feeds: Sequence[Feed],
    *,
    precision: str = "fp32",
    inputs: str = "photograph",
    library: Path | None = None,
    output_names: Sequence[str] | None = None,
) -> ParityReport:
    """Judge the file at `path`; the arguments of `parity.verify.verify`, but every output is judged.

    Of half types the raw tensors are judged, and detections by their average precision, against what storing in the
    type alone loses: rounding scores to 3 digits reorders what NMS sees.

    Raises:
        GateError: the reference detects nothing in the inputs.
    """
    import onnxruntime

    model = read_graph(path, weights=True)
    whole = model if precision == "fp32" else _in_older_opset(emulate_halves(model))
    outputs: list[OutputCheck] = []
    detections: list[DetectionCheck] = []
    for feed in feeds:
        taken = network.normalise(feed)
        reference = run_reference(network.evaluation(TRUTH), taken)
        dtypes = [FLOAT32] if precision == "fp32" else [FLOAT32, precision]
        baselines = [run_raw(network.evaluation(dtype), taken, reference.fixed) for dtype in dtypes]
        for one in (None, library) if library and precision == "fp32" else (None,):
            name = "ONNX Runtime" + (f" + {one.name}" if one else "")
            name += "" if precision == "fp32" else f", every value rounded to {precision}"
            value, found = _run_both(path, whole, network, reference, feed, one, precision)
            outputs += check_raw(name, reference.raw, baselines, value, precision)
            if not network.module.raw:
                stored = None if precision == "fp32" else network.outputs(feed, precision)
                check = check_detections(network.module, reference, found, value[_OWN_ROIS], name, stored)
                detections.append(check)
    activations = [
        c for one in dict.fromkeys((None, library)) for c in check_activations(model, sites, network, one)
    ]
    reason = explain_no_verdict(outputs)
    passed = not reason and all(c.passed for checks in (outputs, detections, activations) for c in checks)
    return ParityReport(
        passed=passed,
        verdict="cannot be judged" if reason else "passed" if passed else "failed",
        reason=reason,
        inputs=inputs,
        runtime=f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider",
        outputs=outputs,
        activations=activations,
        detections=detections,
    )


def _run_both(
    path: Path,
    whole: onnx.ModelProto,
    network: DetectorNetwork,
    reference: Reference,
    feed: Feed,
    library: Path | None,
    precision: str,
) -> tuple[Feed, Feed]:
    """The raw tensors on the fixed RoIs with the graph's own beside them, and what the file itself answers.

    Of a half type the graph that rounds what it stores answers for the file.
    """
    fixed = cut_at(whole, reference.fixed, [*reference.raw, _OWN_ROIS])
    value = _run(fixed, feed | reference.fixed, library, precision)
    if precision == "fp32":
        with SessionRunner(path, "whole", library) as runner:
            return value, dict(runner.infer_impl(feed))
    if network.module.raw:
        return value, {}
    return value, _run(cut_at(whole, {}, network.output_names), feed, library, precision)


def _in_older_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself: bf16 wants opset 22, whose RoiAlign ONNX Runtime lacks; in float32 it is that of before."""
    for entry in model.opset_import:
        entry.version = min(entry.version, 21) if entry.domain in ("", "ai.onnx") else entry.version
    return model


def _run(model: onnx.ModelProto, feed: Feed, library: Path | None, precision: str) -> Feed:
    wanted = {value.name for value in model.graph.input}
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        file = Path(folder) / "part.onnx"
        onnx.save_model(model, file, save_as_external_data=True, location="weights", size_threshold=1024)
        # a graph with roundings is run as it stands: an optimiser would fold them
        with SessionRunner(file, "part", library, optimise=precision == "fp32") as runner:
            given = {name: value for name, value in feed.items() if name in wanted}
            return dict(runner.infer_impl(given))
