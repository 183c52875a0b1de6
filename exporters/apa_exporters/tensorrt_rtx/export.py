"""`--format trt-rtx`: canonical ONNX, decomposed and judged -> a TensorRT for RTX engine, built without a GPU.

model -> ONNX (standard operators, strongly typed) -> parity -> engine -> [run and judged where a GPU is]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from apa_deploy.files import stage_files
from apa_deploy.graph.read import read_graph
from apa_deploy.network import Network
from apa_deploy.progress import notice, step
from apa_deploy.records.parity import ParityError
from apa_deploy.records.passport import EngineBuild, Passport, dump, file_record, passport_path, versions
from apa_deploy.runtimes.cuda_driver import device_count

from ..build_progress import show_progress
from ..onnx.coding import CODED
from ..onnx.export import OnnxOptions, choose_feeds, export_onnx, tensor_records
from ..onnx.from_onnx import batches_of
from ..onnx.sizes import check_profile
from .before_nms import WHY, cut_before_nms
from .build_process import Built, Job, build_in_child
from .limits import DISTRIBUTION, capability_names, check_graph, check_options
from .options import FORMAT, RtxOptions
from .outputs import check_engine

# Seen in 1.7.1 for ReLU as well as for learned activations (docs/int8.md).
NO_EPILOGUE = (
    "TensorRT for RTX fuses nothing into 8-bit convolutions, which write float32: an 8-bit engine may be slower "
    "than one of --precision fp16. Time both on the GPU that will run it"
)


def export_rtx(network: Network, out: Path, options: RtxOptions) -> Passport:
    """Write the engine `out` and its passport, unless a gate fails: then nothing is written.

    Raises:
        MissingError: tensorrt_rtx is absent, or the request needs a GPU.
        InputError: options that do not go together, or that the builder cannot do.
        ParityError: the ONNX file, or the engine where it can run, is not right.
        ChildError: the builder refused or died.
    """
    network = network.for_tensorrt()
    if network.signature.photograph:  # of a detector one picture, in fixed sizes
        options = replace(options, batches=batches_of(network, options.batches))
    check_options(options.batches, options.capabilities, options.strip_weights, options.graph.precision)
    spec = network.input
    graph = options.graph.as_onnx("onnx", options.fixed_batch)
    with stage_files([out, passport_path(out)], force=options.graph.force) as folder:
        source, engine = folder / "model.onnx", folder / out.name
        passport = export_onnx(network, source, graph)
        if parts := cut_before_nms(source):
            notice(WHY)
            passport.notices.append(WHY)
            passport.output_names = list(parts)
            passport.output_tensors = tensor_records(read_graph(source).graph.output)
        options = replace(options, batches=batches_of(network, options.batches))
        model = read_graph(source)
        check_graph(model, options.capabilities)
        others = _other_shapes(network, graph)
        samples = {spec.name: spec.sizes} | others
        check_profile({k: [[batch, *v] for batch in options.batches] for k, v in samples.items()}, model)
        job = Job(
            model=str(source),
            engine=str(engine),
            log=str(folder / "build.log"),
            sample_shape=spec.sizes,
            batches=options.batches,
            capabilities=capability_names(options.capabilities),
            strip_weights=options.strip_weights,
            other_shapes=others,
        )
        with show_progress() as on_report, step("Building the engine"):
            built = build_in_child(job, on_report)
        _judge_engine(engine, network, passport, options)
        _record(passport, source, engine, built, options)
        passport_path(engine).write_text(dump(passport), encoding="utf-8")
    return passport


def _other_shapes(network: Network, options: OnnxOptions) -> dict[str, tuple[int, ...]]:
    """Samples of the inputs after the first."""
    _, *others = choose_feeds(network, options.batch, options.inputs)[0][0].items()
    return {name: array.shape[1:] for name, array in others}


def _judge_engine(engine: Path, network: Network, passport: Passport, options: RtxOptions) -> None:
    """Run the engine where a GPU is, and add its checks to the passport's parity.

    Raises:
        ParityError: it runs, and is not right.
    """
    whole = passport.output_names == list(network.output_names)
    parity = passport.parity if passport.is_judged and whole and not passport.quantisation else None
    if parity is None or options.strip_weights or not device_count():
        return
    with step("Running the engine"):
        feeds = choose_feeds(network, options.batches[1], None)[0]
        checks = check_engine(engine, network, passport, feeds, options.graph.precision)
    if not checks:
        return
    parity.add_checks(checks)
    if not parity.passed:
        raise ParityError(parity)


def _record(passport: Passport, source: Path, engine: Path, built: Built, options: RtxOptions) -> None:
    ran = [c.runner for c in passport.parity.outputs if c.runner.startswith("TensorRT")] if passport.parity else []
    note = f"engine executed: {ran[0]}" if ran else f"engine not executed on this machine: {_why_not(options)}"
    notice(note)
    if options.graph.precision in CODED:
        notice(NO_EPILOGUE)
        passport.notices.append(NO_EPILOGUE)
    chosen = {
        "batches": list(options.batches),
        "capabilities": list(options.capabilities),
        "strip_weights": options.strip_weights,
    }
    passport.format = FORMAT
    passport.options |= {"format": FORMAT} | chosen
    passport.options.pop("batch")
    passport.outputs = [file_record(engine)]
    passport.versions |= versions([DISTRIBUTION])
    passport.build = EngineBuild(
        builder=f"tensorrt_rtx {built.builder}",
        model=file_record(source),
        capabilities=list(options.capabilities),
        batches=options.batches,
        seconds=built.seconds,
        peak_memory_bytes=built.peak_memory_bytes,
        launches=built.launches,
        executed=bool(ran),
        note=note,
    )


def _why_not(options: RtxOptions) -> str:
    if not device_count():
        judged = "; the ONNX file it was built from was judged" if options.graph.verify else ""
        return f"it has no NVIDIA GPU{judged}"
    if options.graph.precision in CODED:
        return "of 8-bit engines the ONNX file is judged, in ONNX Runtime"
    if options.strip_weights:
        return "its weights are left out; refit them first"
    return "its GPU does not take it, or verification was skipped"
