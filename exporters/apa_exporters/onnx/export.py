"""`--format onnx` and `onnx-custom`: canonical ONNX, decomposed or with function bodies; judged; recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from apa_deploy.errors import InputError
from apa_deploy.files import staged
from apa_deploy.graph.decompose import decomposed, decomposition_of
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import DOMAIN, KINDS, Parameters
from apa_deploy.graph.precision import LOWEST_OPSET, check_precision, in_precision
from apa_deploy.loading.load import InputSpec, Metadata, Model
from apa_deploy.loading.onnx_network import OriginalGraph
from apa_deploy.native import LibraryError, ort_library
from apa_deploy.parity.half import verify_half
from apa_deploy.parity.inputs import INPUT, Feed, seeded_feeds, user_feeds
from apa_deploy.parity.operator_gate import Site
from apa_deploy.parity.report import ParityError, ParityReport
from apa_deploy.parity.verify import verify
from apa_deploy.progress import notice, step
from apa_deploy.records.passport import (
    ActivationRecord,
    FileRecord,
    Passport,
    TensorRecord,
    dump,
    file_record,
    now,
    passport_path,
    versions,
)
from apa_deploy.replace import Found
from apa_deploy.runtimes.packages import conflict, installed_packages
from apa_deploy.tensors import datatypes

from .canonical import OPSETS, Canonical, TraceOptions, canonical, provenance, sites
from .from_onnx import feeds_from_onnx, runnable_part
from .onnx_file import data_path, write_onnx
from .options import OnnxOptions


def export_onnx(model: Model, out: Path, options: OnnxOptions, traced: Canonical | None = None) -> Passport:
    """Write `out` and its passport, unless a gate fails: then nothing is written.

    `traced`: what `traced_for` made of the same model and options, where several files are made of it.

    Raises:
        ParityError: the exported model is not right; its `report` says where.
        InputError: options, network or output path cannot be used.
    """
    spec = model.input
    _check(options)
    for text in (*model.metadata.notices, conflict(installed_packages())):
        if text:
            notice(text)
    with staged([out, data_path(out), passport_path(out)], force=options.force) as folder:
        if traced is None:
            with step("Tracing the network"):
                traced = traced_for(model, options)
        places = sites_of(traced, model.module)
        proto = _in_format(traced, options)
        provenance(proto, _facts(model.metadata, traced))
        written = write_onnx(proto, folder / out.name)
        report = _judged(folder / out.name, model, traced, places, options) if options.verify else None
        passport = _passport(model, traced, spec, options, [file_record(p) for p in written], report)
        passport.input_tensors, passport.output_tensors = map(_tensors, (proto.graph.input, proto.graph.output))
        passport_path(folder / out.name).write_text(dump(passport), encoding="utf-8")
    return passport


def traced_for(model: Model, options: OnnxOptions) -> Canonical:
    """The canonical graph for these options."""
    traced = canonical(model, TraceOptions(_opset(options), options.batch))
    _say_what_was_found(traced)
    return traced


def _check(options: OnnxOptions) -> None:
    if options.opset not in OPSETS:
        raise InputError(f"--opset {options.opset}", "18 to 23", "Leave --opset out for 18.")
    if options.batch is not None and options.batch < 1:
        raise InputError(f"--batch {options.batch}", "a positive size", "Leave --batch out for a dynamic one.")
    check_precision(options.precision, options.half_io)


def _opset(options: OnnxOptions) -> int:
    """The opset asked for, or the lowest that has the precision."""
    lowest = LOWEST_OPSET[options.precision]
    if options.opset < lowest:
        notice(f"opset {lowest} instead of {options.opset}: the first that has {options.precision} convolutions")
    return max(options.opset, lowest)


def _say_what_was_found(traced: Canonical) -> None:
    if not traced.replacements.found:
        notice("the network has no learned activation; it is exported all the same")
    for refused in traced.replacements.refused:
        notice(f"{refused.path} was left as it is: {refused.reason}")


def sites_of(traced: Canonical, module: nn.Module) -> list[Site]:
    """Where each activation stands in the canonical graph, beside the original torch module."""
    nodes = {node.name: node for node in traced.proto.graph.node if node.domain == DOMAIN and node.op_type in KINDS}
    found = {f.path: f for f in traced.replacements.found}
    places = []
    for name, (source, target) in sites(traced.proto).items():
        path = name.split("#")[0]
        one = found.get(path)
        channels = max(len(one.lambda_), len(one.kappa)) if one else 1
        axis = one.axis if one else 1
        places.append(Site(name, nodes[name].op_type, source, target, module.get_submodule(path), channels, axis))
    return places


def _in_format(traced: Canonical, options: OnnxOptions) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(traced.proto)
    in_precision(proto, options.precision, half_io=options.half_io)
    if options.format == "onnx-custom":
        return with_functions(proto)
    return decomposed(proto, options.decomposition)


def _facts(metadata: Metadata, traced: Canonical) -> dict[str, object]:
    return {
        "source": metadata.source,
        "source_sha256": metadata.sha256,
        "architecture": metadata.architecture,
        "versions": versions(),
        "activations": {
            f.path: {"kind": f.kind, "floor": f.floor, "lambda": f.lambda_, "kappa": f.kappa}
            for f in traced.replacements.found
        },
        **({"labels": metadata.labels} if metadata.labels else {}),
        **({"pixels": metadata.pixels} if metadata.pixels else {}),
    }


def _judged(path: Path, model: Model, traced: Canonical, places: list[Site], options: OnnxOptions) -> ParityReport:
    feeds, said = feeds_of(model, options.batch, options.inputs)
    if isinstance(model.module, OriginalGraph) and not model.module.whole:
        path, places = runnable_part(path, traced.output_names, places)
    with step("Verifying against the float64 module"):
        report = _gate(options.precision)(
            path,
            model.module,
            places,
            feeds,
            traced.output_names,
            inputs=said,
            library=custom_library() if options.format == "onnx-custom" else None,
        )
    if not report.passed:
        raise ParityError(report)
    return report


def _gate(precision: str) -> Callable[..., ParityReport]:
    return verify if precision == "fp32" else partial(verify_half, precision=precision)


def custom_library() -> Path | None:
    """The fused operators, judged beside the function bodies where they are built."""
    try:
        return ort_library()
    except LibraryError:
        return None


def feeds_of(model: Model, batch: int | None, inputs: Path | None) -> tuple[list[Feed], str]:
    """What to judge `model` on, and what the report says about it. `inputs`: the user's own."""
    if isinstance(model.module, OriginalGraph):
        return feeds_from_onnx(model, batch, inputs)
    spec = model.input
    if inputs:
        return user_feeds(inputs, INPUT, spec), inputs.name
    return seeded_feeds(INPUT, spec, batch or 2), "seeded"


def _passport(
    model: Model,
    traced: Canonical,
    spec: InputSpec,
    options: OnnxOptions,
    outputs: list[FileRecord],
    report: ParityReport | None,
) -> Passport:
    metadata = model.metadata
    chosen = {k: v.name if isinstance(v, Path) else v for k, v in asdict(options).items() if k != "force"}
    chosen |= {"pixels": metadata.pixels} if metadata.pixels else {}
    return Passport(
        created=now(),
        format=options.format,
        options=chosen,
        architecture=metadata.architecture,
        weights=metadata.weights,
        input_shape=spec.image,
        output_names=list(traced.output_names),
        inputs=[FileRecord(name=metadata.source, sha256=metadata.sha256, bytes=metadata.bytes)],
        outputs=outputs,
        versions=versions(),
        activations=[activation_record(f) for f in traced.replacements.found],
        notices=list(metadata.notices),
        parity=report,
    )


def _tensors(values: Iterable[onnx.ValueInfoProto]) -> list[TensorRecord]:
    return [_tensor(value.name, value.type.tensor_type) for value in values]


def _tensor(name: str, tensor: onnx.TypeProto.Tensor) -> TensorRecord:
    known = datatypes.of_onnx(tensor.elem_type)  # bfloat16 is none of the protocol's that numpy has
    shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return TensorRecord(name=name, datatype=known.name if known else "BF16", shape=shape)


def activation_record(found: Found) -> ActivationRecord:
    """What the passport keeps of one activation."""
    values: dict[str, Any] = {"lambda": list(found.lambda_), "kappa": list(found.kappa)}
    form = decomposition_of(Parameters(found.lambda_, found.kappa, found.axis))
    return ActivationRecord(path=found.path, kind=found.kind, floor=found.floor, form=form, **values)
