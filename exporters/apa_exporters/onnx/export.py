"""`--format onnx` and `onnx-custom`: canonical ONNX, decomposed or with function bodies; judged; recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import singledispatch
from pathlib import Path
from typing import Any

import onnx

from apa_deploy.calibration.quantisation import Quantised
from apa_deploy.deployment.counts import check_number
from apa_deploy.detection.verify import verify_detector
from apa_deploy.errors import InputError
from apa_deploy.files import stage_files
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.precision import LOWEST_OPSET, check_precision, in_precision
from apa_deploy.graph.read import read_graph
from apa_deploy.graph.sites import ActivationSite, move_to_file
from apa_deploy.loading.detector_network import DetectorNetwork
from apa_deploy.loading.torch_trace import OPSETS
from apa_deploy.native import LibraryError, ort_library
from apa_deploy.network import Metadata, Network, Trace
from apa_deploy.parity.verify import verify
from apa_deploy.progress import notice, step
from apa_deploy.records.parity import ParityError, ParityReport, refuse_to_judge
from apa_deploy.records.passport import (
    FileRecord,
    Passport,
    TensorRecord,
    dump,
    file_record,
    now,
    passport_path,
    record_activation,
    versions,
)
from apa_deploy.runtimes.ort_faults import settings_elsewhere
from apa_deploy.runtimes.packages import conflict, find_packages
from apa_deploy.tensors import datatypes
from apa_deploy.tensors.inputs import seeded_feeds, user_feeds
from apa_deploy.tensors.signature import Feed, Shape

from .coding import CODED, check_coding, quantise_traced, record_coding, refuse_coding
from .onnx_file import data_path, write_onnx
from .options import OnnxOptions
from .sizes import trace_at_true_sizes


def export_onnx(network: Network, out: Path, options: OnnxOptions, traced: Trace | None = None) -> Passport:
    """Write `out` and its passport, unless a gate fails: then nothing is written.

    `traced`: what `trace_network` made of the same network and options, where several files are made of it.

    Raises:
        ParityError: the exported model is not right; its `report` says where.
        InputError: options, network or output path cannot be used.
    """
    input_shape = network.input.image
    _check(options)
    for text in (*network.metadata.notices, conflict(find_packages())):
        if text:
            notice(text)
    with stage_files([out, data_path(out), passport_path(out)], force=options.force) as folder:
        if traced is None:
            with step("Tracing the network"):
                traced = trace_network(network, options)
        coded = quantise_traced(network, traced, options) if options.precision in CODED else None
        proto = _in_format(traced, options, coded)
        check_number(network.metadata.labels, {one.name: one.shape for one in tensor_records(proto.graph.output)})
        _add_provenance(proto, _facts(network.metadata, traced))
        written = write_onnx(proto, folder / out.name)
        for text in settings_elsewhere(proto):
            notice(text)
        judged = _float32_form(coded, folder / "float32.onnx") if coded else folder / out.name
        report = _judge(judged, network, traced, options) if options.verify else None
        passport = _passport(network, traced, input_shape, options, [file_record(p) for p in written], report)
        passport.quantisation = coded.record if coded else None
        passport.input_tensors, passport.output_tensors = map(
            tensor_records, (proto.graph.input, proto.graph.output)
        )
        passport_path(folder / out.name).write_text(dump(passport), encoding="utf-8")
    return passport


def trace_network(network: Network, options: OnnxOptions) -> Trace:
    """The canonical graph for these options; says what was not found in it."""
    traced = trace_at_true_sizes(network, _opset(options), options.batch)
    if not traced.activations and not traced.refused:
        notice("the network has no learned activation; it is exported all the same")
    for refused in traced.refused:
        notice(f"{refused.path} was left as it is: {refused.reason}")
    for text in traced.notices:
        notice(text)
    return traced


def _check(options: OnnxOptions) -> None:
    if options.opset not in OPSETS:
        raise InputError(f"--opset {options.opset}", "18 to 23", "Leave --opset out for 18.")
    if options.batch is not None and options.batch < 1:
        raise InputError(f"--batch {options.batch}", "a positive size", "Leave --batch out for a dynamic one.")
    if options.precision in CODED:
        check_coding(options)
    else:
        refuse_coding(options)
        check_precision(options.precision, options.half_io)


def _opset(options: OnnxOptions) -> int:
    """The opset asked for, or the lowest that has the precision."""
    lowest = CODED.get(options.precision) or LOWEST_OPSET[options.precision]
    if options.opset < lowest:
        notice(f"opset {lowest} instead of {options.opset}: the first that has {options.precision} convolutions")
    return max(options.opset, lowest)


def _in_format(traced: Trace, options: OnnxOptions, coded: Quantised | None) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(coded.proto if coded else traced.proto)
    if coded is None:
        in_precision(proto, options.precision, half_io=options.half_io)
    if options.format == "onnx-custom":
        return with_functions(proto)
    return decompose(proto, options.decomposition)


def _facts(metadata: Metadata, traced: Trace) -> dict[str, object]:
    return {
        "source": metadata.source,
        "source_sha256": metadata.sha256,
        "architecture": metadata.architecture,
        "versions": versions(),
        "activations": {
            a.path: {
                "kind": a.kind,
                "floor": a.floor,
                "lambda": a.parameters.lambda_,
                "kappa": a.parameters.kappa,
            }
            for a in traced.activations
        },
        **({"labels": metadata.labels} if metadata.labels else {}),
        **({"pixels": metadata.pixels} if metadata.pixels else {}),
        **({"detector": metadata.detector} if metadata.detector else {}),
    }


def _add_provenance(proto: onnx.ModelProto, facts: dict[str, object]) -> None:
    """Put `facts` into the model's metadata, under keys that begin with `apa.`."""
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = f"apa.{key}", value if isinstance(value, str) else json.dumps(value)


def _float32_form(coded: Quantised, path: Path) -> Path:
    """What was quantised, as a file: it is held against the float64 module, and the 8-bit form against it."""
    proto = onnx.ModelProto()
    proto.CopyFrom(coded.float32)
    write_onnx(decompose(proto), path)
    return path


def _judge(path: Path, network: Network, traced: Trace, options: OnnxOptions) -> ParityReport:
    feeds, said = choose_feeds(network, options.batch, options.inputs)
    path, sites, names = network.judged_part(path, traced.sites)
    with step("Verifying against the float64 module"):
        report = _verify(
            network,
            path,
            move_to_file(sites, read_graph(path)),
            feeds,
            precision="fp32" if options.precision in CODED else options.precision,
            inputs=said,
            library=custom_library() if options.format == "onnx-custom" else None,
            output_names=names,
        )
    if not report.passed:
        raise ParityError(report)
    return report


@singledispatch
def _verify(
    network: Network, path: Path, sites: Sequence[ActivationSite], feeds: Sequence[Feed], **options: Any
) -> ParityReport:
    """What says whether the file at `path` is right: outputs by value, of a detector stage by stage."""
    return verify(path, network, sites, feeds, **options)


@_verify.register
def _(
    network: DetectorNetwork, path: Path, sites: Sequence[ActivationSite], feeds: Sequence[Feed], **options: Any
) -> ParityReport:
    return verify_detector(path, network, sites, feeds, **options)


def custom_library() -> Path | None:
    """The fused operators, judged beside the function bodies where they are built."""
    try:
        return ort_library()
    except LibraryError:
        return None


def choose_feeds(network: Network, batch: int | None, inputs: Path | None) -> tuple[list[Feed], str]:
    """What to judge `network` on, and what the report says about it. `inputs`: the user's own."""
    if inputs:
        return user_feeds(inputs, network.signature), inputs.name
    usual = 1 if network.signature.photograph else 2  # float64 takes minutes of one large picture
    return seeded_feeds(network.signature, batch or usual), network.signature.seeds


def _passport(
    network: Network,
    traced: Trace,
    input_shape: Shape,
    options: OnnxOptions,
    outputs: list[FileRecord],
    report: ParityReport | None,
) -> Passport:
    metadata = network.metadata
    left_out = ("force", "coding", "placement")
    chosen = {k: v.name if isinstance(v, Path) else v for k, v in asdict(options).items() if k not in left_out}
    chosen |= record_coding(options) if options.precision in CODED else {}
    chosen |= {"pixels": metadata.pixels} if metadata.pixels else {}
    chosen |= {"detector": metadata.detector} if metadata.detector else {}
    return Passport(
        created=now(),
        format=options.format,
        options=chosen,
        architecture=metadata.architecture,
        weights=metadata.weights,
        input_shape=input_shape,
        output_names=list(traced.output_names),
        inputs=[FileRecord(name=metadata.source, sha256=metadata.sha256, bytes=metadata.bytes)],
        outputs=outputs,
        versions=versions(),
        activations=[record_activation(site) for site in traced.activations],
        notices=[*metadata.notices, *traced.notices],
        parity=report or refuse_to_judge("--no-verify", "none", asked=False),
    )


def tensor_records(values: Iterable[onnx.ValueInfoProto]) -> list[TensorRecord]:
    """Names, types and sizes of a graph's inputs or outputs; -1 where a size is open."""
    return [_tensor(value.name, value.type.tensor_type) for value in values]


def _tensor(name: str, tensor: onnx.TypeProto.Tensor) -> TensorRecord:
    known = datatypes.of_onnx(tensor.elem_type)  # bfloat16 is none of the protocol's that numpy has
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or -1 for dim in tensor.shape.dim]
    shape = [dim if isinstance(dim, int) else -1 for dim in dims]
    return TensorRecord(name=name, datatype=known.name if known else "BF16", shape=shape, sizes=dims)
