"""Somebody's ONNX file -> a graph that our passes can work on: weights loaded, functions inlined, opset raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
from onnx.inliner import inline_selected_functions

from ..errors import InputError
from ..files import sha256
from ..graph.node import DOMAIN
from ..graph.pieces import end_graph_at
from ..graph.read import OnnxFileError, read_graph
from ..graph.recognise import recognise
from ..graph.repair import declare_shapes, open_dimensions, spell_out_group_norms
from ..graph.tables import table_rows
from ..graph.unsupported import find_unsupported_part
from ..maths import KINDS
from ..network import Metadata
from ..tensors.inputs import fits_dims
from ..tensors.signature import BATCH, Shape, Signature, TensorSpec, parse_input, read_signature
from .onnx_network import OnnxNetwork, read_rows
from .opset import opset_of

# Sizes for open dimensions: of images, and of anything else.
_CHANNELS, _SIDE, _LENGTH = 3, 224, 16
# Before it every weight had to be an input as well.
_FIRST_IR_WITH_FREE_WEIGHTS = 4


def load_onnx(path: Path) -> onnx.ModelProto:
    """The model at `path`, external weights included, local functions inlined but for those of `com.apa`.

    Initializers that the file also lists as inputs (old exporters do) are no inputs here.

    Raises:
        OnnxFileError: the file is no ONNX model, or its weights are missing.
    """
    return read_repaired(path)[0]


def read_repaired(path: Path) -> tuple[onnx.ModelProto, list[str]]:
    """`load_onnx`, and the inputs of size 0, whose sizes are open now: no runtime takes a sample otherwise."""
    model = read_graph(path, weights=True)
    _check(model, path)
    return repair_model(model)


def repair_model(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model, with what ONNX Runtime takes and onnx's tools do not put right; and its inputs of size 0."""
    model = _inline_functions(model)
    _without_default_inputs(model)
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FREE_WEIGHTS)
    spell_out_group_norms(model, opset_of(model))
    empty = open_dimensions(model)
    declare_shapes(model)
    return model, empty


def network_from_onnx(path: Path, input_shape: Shape | None = None, inputs: Sequence[str] = ()) -> OnnxNetwork:
    """The file at `path` as a network; its activations are recognised.

    `input_shape`: of one sample, where the file leaves dimensions open; see `with_sizes`.

    Raises:
        OnnxFileError: see `load_onnx`.
        InputError: `input_shape` contradicts the file, or nothing of it runs here.
    """
    graph, empty = read_repaired(path)
    _declare_inputs(graph, input_shape, [parse_input(text) for text in inputs])
    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    recognition = recognise(folded)
    unsupported = find_unsupported_part(graph)
    signature, notices = with_sizes(read_signature(graph), input_shape, inputs)
    signature = with_rows(signature, graph)
    if read_rows(graph.graph) and len(signature.inputs) == 1 and signature.first.is_image:
        signature = replace(signature, photograph=signature.first.image[0] == 3)
    opened = "input {} has a size of 0, which takes no data: it is open in what is written"
    notices += tuple(opened.format(name) for name in empty)
    metadata = Metadata(
        architecture=path.stem,
        source=path.name,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        output_names=tuple(value.name for value in graph.graph.output),
        notices=notices,
    )
    network = OnnxNetwork(path, graph, folded, recognition, signature, metadata)
    network.repaired = bool(empty)
    if not unsupported or network.runs:  # com.microsoft's operators run, and those of a library that was given
        return network
    operators, outputs = unsupported
    if not outputs:
        saw = f"{path.name}: {', '.join(operators.operators)}, which nothing here runs, before every output"
        do = "Give the library that holds it: --ort-library of apa-export, apa-verify, apa-bench and apa-serve."
        raise InputError(saw, "a part of the graph that can be run and judged", do)
    metadata.notices += (str(operators),)
    return OnnxNetwork(None, end_graph_at(graph, outputs), folded, recognition, signature, metadata, operators)


def _declare_inputs(graph: onnx.ModelProto, first: Shape | None, given: Sequence[TensorSpec]) -> None:
    """Write what the user says of inputs into those of which the file says nothing, not even the rank."""
    said = {spec.name: spec.dims for spec in given}
    for i, value in enumerate(graph.graph.input):
        dims = said.get(value.name) or ((BATCH, *first) if first and not i else None)
        if dims and not value.type.tensor_type.HasField("shape"):
            element = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, element, dims))
    declare_shapes(graph)


def with_rows(signature: Signature, graph: onnx.ModelProto) -> Signature:
    """The signature with the tables that its integers are indices of."""
    rows = table_rows(graph)
    return replace(signature, inputs=tuple(replace(s, rows=rows.get(s.name)) for s in signature.inputs))


def with_sizes(
    signature: Signature, wanted: Shape | None, inputs: Sequence[str] = ()
) -> tuple[Signature, tuple[str, ...]]:
    """The signature with the sizes of one sample of every input, and what to tell the user about them.

    Open sizes of the first input are `wanted`'s; without it, height and width of an image are 224, all else is 16.
    Where the file tells nothing of a shape, not even its rank, nothing is assumed.

    Raises:
        InputError: there is no input, or `wanted` contradicts the first.
    """
    if inputs:
        if wanted:
            raise InputError("--input and --input-shape", "one of them", "Leave --input-shape out.")
        signature = _with_given(signature, [parse_input(text) for text in inputs])
        wanted = signature.first.sample
    first = signature.first
    dims = (first.dims or ())[1:]
    notices: tuple[str, ...] = ()
    if wanted is None:
        shape = None if first.dims is None else _usual_sizes(dims)
        if first.open_axes.keys() - {0}:
            at = "x".join(map(str, shape or ()))
            notices = (f"{first.name} has open dimensions: verified at {at}; --input-shape sets others",)
    elif len(wanted) != len(dims) or any(isinstance(d, int) and d != w for d, w in zip(dims, wanted, strict=True)):
        has = "x".join("?" if isinstance(d, str) else str(d) for d in dims)
        saw = f"--input-shape {'x'.join(map(str, wanted))}"
        raise InputError(saw, f"a sample of {first.name}: {has}", "Give the open dimensions only.")
    else:
        shape = wanted
    others = (
        spec
        if spec.sample is not None or spec.dims is None
        else replace(spec, sample=tuple(_LENGTH if isinstance(d, str) else d for d in (spec.dims or ())[1:]))
        for spec in signature.inputs[1:]
    )
    return replace(signature, inputs=(replace(first, sample=shape), *others)), notices


def _with_given(signature: Signature, given: Sequence[TensorSpec]) -> Signature:
    """The sizes of `given` where the graph leaves them open; its own types and fixed sizes stay."""
    known = {spec.name: spec for spec in signature.inputs}
    for one in given:
        has = known.get(one.name)
        if has is None:
            raise InputError(f"--input {one.name}", f"an input of the file: {', '.join(known)}", "Name it so.")
        sample = one.sample or ()
        dims = (has.dims or ())[1:]
        if not fits_dims(sample, dims):
            shown = "x".join("?" if isinstance(d, str) else str(d) for d in dims)
            saw = f"--input {one.name}={'x'.join(map(str, sample))}"
            raise InputError(saw, f"a sample of {one.name}: {shown}", "Give the open dimensions only.")
        known[one.name] = replace(has, sample=sample)
    return replace(signature, inputs=tuple(known.values()))


def _usual_sizes(dims: Sequence[int | str]) -> Shape:
    defaults = (_CHANNELS, _SIDE, _SIDE) if len(dims) == 3 else (_LENGTH,) * len(dims)
    return tuple(default if isinstance(dim, str) else dim for dim, default in zip(dims, defaults, strict=True))


def _check(model: onnx.ModelProto, path: Path) -> None:
    if not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        raise OnnxFileError(path, "no opset of the standard operators")
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            raise OnnxFileError(path, f"{value.name!r} is text", "Leave it out: numbers alone can be judged.")
    if any(tensor.ByteSize() and tensor.data_type == 0 for tensor in model.graph.initializer):
        raise OnnxFileError(path, "an initializer without a type")
    newest = onnx.defs.onnx_opset_version()
    for what, have, known in (
        ("opset", opset_of(model), newest),
        ("IR version", model.ir_version, onnx.IR_VERSION),
    ):
        if have > known:
            saw = f"{what} {have}; onnx {onnx.__version__} here knows up to {known}"
            raise OnnxFileError(path, saw, "Export the model for an older one, or run: pip install --upgrade onnx.")


def _inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    others = [f for f in model.functions if f.domain != DOMAIN]
    if others:
        model = inline_selected_functions(model, [(DOMAIN, kind) for kind in KINDS], exclude=True)
    del model.functions[:]
    return model


def _without_default_inputs(model: onnx.ModelProto) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    for i in reversed(range(len(model.graph.input))):
        if model.graph.input[i].name in stored:
            del model.graph.input[i]
