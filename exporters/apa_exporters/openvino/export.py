"""`--format openvino`: decomposed ONNX, judged -> OpenVINO IR, judged in OpenVINO itself.

model -> ONNX (float32) -> parity -> [weights in half] -> OUT.xml, OUT.bin -> run in float32 -> parity -> passport
"""

from __future__ import annotations

from pathlib import Path

from apa_deploy.files import stage_files
from apa_deploy.graph.read import read_graph
from apa_deploy.network import Network
from apa_deploy.parity.model_gate import check_recorded
from apa_deploy.progress import notice, step
from apa_deploy.records.parity import OutputCheck, ParityError
from apa_deploy.records.passport import Passport, dump, file_record, passport_path, versions
from apa_deploy.require import require
from apa_deploy.runtimes.openvino import INFERENCE_PRECISION, OpenVinoSession, read_model, weights_path
from apa_deploy.runtimes.ort_session import open_session

from ..onnx.export import choose_feeds, export_onnx
from ..onnx.onnx_file import write_onnx
from .half_weights import store_weights_in_half
from .options import FORMAT, OpenVinoOptions


def export_openvino(network: Network, out: Path, options: OpenVinoOptions) -> Passport:
    """Write OUT.xml, OUT.bin and their passport, unless a gate fails: then nothing is written.

    Raises:
        MissingError: OpenVINO is absent.
        InputError: options, network or output path cannot be used.
        ParityError: the ONNX file inside, or the IR in OpenVINO, is not right.
    """
    openvino = require("openvino")
    with stage_files([out, weights_path(out), passport_path(out)], force=options.force) as folder:
        source, ir = folder / "model.onnx", folder / out.name
        graph = options.as_onnx("onnx", options.batch, precision="fp32")
        passport = export_onnx(network, source, graph)
        if options.precision == "fp16":
            source = _with_half_weights(source)
        with step("Writing the IR"):
            openvino.save_model(read_model(source), ir, compress_to_fp16=False)
        runner = f"OpenVINO {openvino.__version__.split('-')[0]}, inference precision {INFERENCE_PRECISION}"
        if passport.is_judged:
            with step("Verifying in OpenVINO"):
                _judge(ir, source, runner, network, passport, options)
        passport.format = FORMAT
        passport.options |= {
            "format": FORMAT,
            "precision": options.precision,
            "inference_precision": INFERENCE_PRECISION,
        }
        passport.outputs = [file_record(ir), file_record(weights_path(ir))]
        passport.versions |= versions(["openvino"])
        passport_path(ir).write_text(dump(passport), encoding="utf-8")
    return passport


def _with_half_weights(source: Path) -> Path:
    model = read_graph(source, weights=True)
    for name in store_weights_in_half(model):
        notice(f"{name} stays float32: it holds values that fp16 cannot")
    half = source.with_name("half.onnx")
    write_onnx(model, half)
    return half


def _judge(
    ir: Path, source: Path, runner: str, network: Network, passport: Passport, options: OpenVinoOptions
) -> None:
    """Add the IR's checks to the passport's parity.

    Raises:
        ParityError: it is not right.
    """
    assert passport.parity is not None
    feeds = choose_feeds(network, options.batch, options.inputs)[0]
    session = OpenVinoSession(ir)
    recorded = [session.run(feed) for feed in feeds]
    of_rows = network.rows is not None and options.precision == "fp16"  # judged by average precision
    checks = check_recorded(recorded, runner, network, feeds, "fp16" if of_rows else "fp32")
    if options.precision == "fp16" and not of_rows:
        stored = open_session(source)
        outputs = [dict(zip(passport.output_names, stored.run(None, feed), strict=True)) for feed in feeds]
        baselines = check_recorded(outputs, "the weights stored in fp16", network, feeds, "fp16")
        ceilings = check_recorded(recorded, runner, network, feeds, "fp16")
        checks = [_with_baseline(*three) for three in zip(checks, baselines, ceilings, strict=True)]
    passport.parity.add_checks(checks)
    if not passport.parity.passed:
        raise ParityError(passport.parity)


def _with_baseline(check: OutputCheck, baseline: OutputCheck, ceiling: OutputCheck) -> OutputCheck:
    """The limit of float32, and on top of it what the stored weights alone make of the float64 outputs.

    With the same weights in both, only float32 arithmetic is between the IR and the baseline, so that by the
    triangle inequality no more than the sum can be between the IR and float64. The baseline is made of our own
    graph: the limits of a network that stores all its values in fp16, which are made of the network, bound it.
    """
    limit = min(check.limit + baseline.max_rel, ceiling.limit)
    passed = check.max_rel <= limit and check.cosine >= (ceiling.min_cosine or 0) and not ceiling.broken_gains
    changes = {"limit": limit, "stored_max_rel": baseline.max_rel, "passed": passed, "gains": ceiling.gains}
    return check.model_copy(update=changes)
