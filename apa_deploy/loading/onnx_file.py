"""Somebody's ONNX file -> a graph that our passes can work on: weights loaded, functions inlined, opset raised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx.version_converter
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from onnx.inliner import inline_selected_functions
from torch.export import ExportedProgram

from ..errors import InputError
from ..files import SourceError, check_regular, sha256
from ..graph.external_weights import read_weights
from ..graph.foreign import foreign_part, up_to
from ..graph.node import DOMAIN, KINDS, subgraphs
from ..graph.recognise import recognise
from ..graph.repair import declare_shapes, open_dimensions, sort_nodes, spell_out_group_norms
from .exported_program import graph_of_program
from .load import Metadata, Model, Shape
from .onnx_network import Engines, OriginalGraph
from .trusted import NOTICE

# Tensors up to this size may say something to the converter (axes, shapes); larger ones are weights.
_LARGEST_TOLD = 1024
_FIRST_RESIZE_WITH_MODES = 11
_FIRST_FREE_BROADCAST, _ANY_SIZE = 7, 2
# Before it every weight had to be an input as well.
_FIRST_IR_WITH_FREE_WEIGHTS = 4
# Sizes for open dimensions: of images, and of anything else.
_CHANNELS, _SIDE, _LENGTH = 3, 224, 16


class OnnxFileError(InputError):
    """An ONNX file cannot be read. `path`."""

    def __init__(self, path: Path, saw: str, do: str = "Check the file, or export it again.") -> None:
        super().__init__(f"{path}: {saw}", "a complete ONNX model", do)
        self.path = path


class OpsetError(InputError):
    """An ONNX graph cannot be brought to another opset. `have`, `wanted_opset`, `reason`."""

    def __init__(self, have: int, wanted: int, reason: str) -> None:
        super().__init__(
            f"opset {have}; its conversion says: {reason}",
            f"a graph that can be converted to opset {wanted}",
            f"Export the model again with opset {wanted}.",
        )
        self.have, self.wanted_opset, self.reason = have, wanted, reason


def load_onnx(path: Path) -> onnx.ModelProto:
    """The model at `path`, external weights included, local functions inlined but for those of `com.apa`.

    Initializers that the file also lists as inputs (old exporters do) are no inputs here.

    Raises:
        OnnxFileError: the file is no ONNX model, or its weights are missing.
    """
    return read_repaired(path)[0]


def read_repaired(path: Path) -> tuple[onnx.ModelProto, list[str]]:
    """`load_onnx`, and the inputs of size 0, whose sizes are open now: no runtime takes a sample otherwise."""
    model = _read(path)
    _check(model, path)
    _load_weights(model, path)
    model = _inlined(model)
    _without_default_inputs(model)
    return model, repair_graph(model, path)


def repair_graph(model: onnx.ModelProto, path: Path) -> list[str]:
    """Put right what ONNX Runtime takes and onnx's tools do not; inputs of size 0, whose sizes are open now.

    Raises:
        OnnxFileError: nodes wait for one another.
    """
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FREE_WEIGHTS)
    try:
        sort_nodes(model.graph)
    except ValueError as error:
        raise OnnxFileError(path, str(error)) from error
    spell_out_group_norms(model, opset_of(model))
    empty = open_dimensions(model)
    declare_shapes(model)
    return empty


def model_from_onnx(path: Path, input_shape: Shape | None = None) -> Model:
    """The file at `path` as a `Model` whose module is an `OriginalGraph`; its activations are recognised.

    `input_shape`: of one sample, where the file leaves dimensions open; see `sample_shape`.

    Raises:
        OnnxFileError: see `load_onnx`.
        InputError: `input_shape` contradicts the file.
    """
    graph, empty = read_repaired(path)
    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    recognition = recognise(folded)
    foreign = foreign_part(graph)
    engines = Engines(
        None if foreign else path, up_to(graph, foreign[1]) if foreign else graph, folded, bool(empty)
    )
    metadata = Metadata(
        architecture=path.stem,
        source=path.name,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        output_names=tuple(value.name for value in graph.graph.output),
    )
    shape, notices = sample_shape(graph, input_shape)
    notices += tuple(
        f"input {name} has a size of 0, which takes no data: it is open in what is written" for name in empty
    )
    metadata.notices = (*notices, str(foreign[0])) if foreign else notices
    return Model(OriginalGraph(engines, recognition), shape, metadata)


def model_from_program(program: ExportedProgram, path: Path, input_shape: Shape | None = None) -> Model:
    """A program of torch.export, from the `.pt2` file at `path`, in the same way.

    Raises:
        ProgramError: torch cannot write it as ONNX.
        InputError: `input_shape` contradicts it.
    """
    module = graph_of_program(program, path)
    shape, notices = sample_shape(module.graph, input_shape)
    metadata = Metadata(path.stem, output_names=module.output_names, notices=(NOTICE, *notices))
    return Model(module, shape, metadata)


def sample_shape(graph: onnx.ModelProto, wanted: Shape | None) -> tuple[Shape, tuple[str, ...]]:
    """Dimensions of one sample of the first input, without its batch, and what to tell the user about them.

    Open ones are `wanted`'s; without it, height and width of an image are 224, anything else is 16.
    """
    if not graph.graph.input:
        raise InputError("a graph without inputs", "a network", "Check the file.")
    first = graph.graph.input[0]
    dims = [d.dim_value for d in first.type.tensor_type.shape.dim][1:]
    if wanted is None:
        shape = _usual(dims)
        at = "x".join(map(str, shape))
        said = f"{first.name} has open dimensions: verified at {at}; --input-shape sets others"
        return shape, (said,) if 0 in dims else ()
    if len(wanted) != len(dims) or any(d and d != w for d, w in zip(dims, wanted, strict=True)):
        has = "x".join(str(d) if d else "?" for d in dims)
        saw = f"--input-shape {'x'.join(map(str, wanted))}"
        raise InputError(saw, f"a sample of {first.name}: {has}", "Give the open dimensions only.")
    return wanted, ()


def _usual(dims: Sequence[int]) -> Shape:
    defaults = (_CHANNELS, _SIDE, _SIDE) if len(dims) == 3 else (_LENGTH,) * len(dims)
    return tuple(dim or default for dim, default in zip(dims, defaults, strict=True))


def _read(path: Path) -> onnx.ModelProto:
    try:
        check_regular(path)
        return onnx.load(path, load_external_data=False)
    except SourceError as error:
        raise OnnxFileError(path, error.reason, error.do) from error
    except OSError as error:
        raise OnnxFileError(path, error.strerror or "unreadable", "Check the path.") from error
    except (DecodeError, ValueError) as error:
        raise OnnxFileError(path, str(error).splitlines()[0]) from error


def _check(model: onnx.ModelProto, path: Path) -> None:
    if not model.graph.node or not model.graph.output:
        raise OnnxFileError(path, "no graph in it")
    if not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        raise OnnxFileError(path, "no opset of the standard operators")
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


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    others = [f for f in model.functions if f.domain != DOMAIN]
    if others:
        model = inline_selected_functions(model, [(DOMAIN, kind) for kind in KINDS], exclude=True)
    del model.functions[:]
    return model


def _load_weights(model: onnx.ModelProto, path: Path) -> None:
    try:
        read_weights(model, path)
    except (OSError, ValueError) as error:
        saw = f"its weights cannot be read: {str(error).splitlines()[0]}"
        raise OnnxFileError(path, saw, "Keep the file of weights beside the model, under its own name.") from error


def _without_default_inputs(model: onnx.ModelProto) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    for i in reversed(range(len(model.graph.input))):
        if model.graph.input[i].name in stored:
            del model.graph.input[i]


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of the standard operators."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """`model` at `opset`: itself where it is there already. Values keep their names, the model its metadata.

    Raises:
        OpsetError: some operator cannot be converted.
    """
    have = opset_of(model)
    if have == opset:
        return model
    with _weights_set_aside(model), _sizes_given(model, have):
        try:
            result = onnx.version_converter.convert_version(model, opset)
        except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
            reason = str(error).splitlines()[0].rpartition("failed: ")[2]  # without onnx's own source line
            raise OpsetError(have, opset, reason) from error
    _put_back(result, model)
    if have < _FIRST_FREE_BROADCAST:
        for value, kept in zip(
            (*result.graph.input, *result.graph.output), (*model.graph.input, *model.graph.output), strict=True
        ):
            value.type.CopyFrom(kept.type)
        del result.graph.value_info[:]
    if have < _FIRST_RESIZE_WITH_MODES:
        _keep_sampling(result.graph)
    return result


@contextmanager
def _sizes_given(model: onnx.ModelProto, have: int) -> Iterator[None]:
    """Before opset 7 broadcasting was spelled out, and the converter wants sizes to translate that: any will do."""
    ends = [value for value in (*model.graph.input, *model.graph.output) if have < _FIRST_FREE_BROADCAST]
    types = [onnx.TypeProto.FromString(value.type.SerializeToString()) for value in ends]
    for value in ends:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = dim.dim_value or _ANY_SIZE
    try:
        yield
    finally:
        for value, kept in zip(ends, types, strict=True):
            value.type.CopyFrom(kept)


def _keep_sampling(graph: onnx.GraphProto) -> None:
    """Upsample and the first Resize sample at x / scale; the converter leaves Resize's default, half pixels."""
    for node in graph.node:
        if node.op_type == "Resize":
            given = {attribute.name for attribute in node.attribute}
            for name, value in (("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")):
                if name not in given:
                    node.attribute.append(helper.make_attribute(name, value))
        for inner in subgraphs(node):
            _keep_sampling(inner)


@contextmanager
def _weights_set_aside(model: onnx.ModelProto) -> Iterator[None]:
    """Let weights be inputs for a while: the converter copies all it is given, and takes 2 GB at most."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    weights = [tensor for tensor in graph.initializer if _is_weight(tensor)]
    kept = [tensor for tensor in graph.initializer if not _is_weight(tensor)]
    inputs = list(graph.input)
    _set(graph.initializer, kept)
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in weights
    )
    try:
        yield
    finally:
        _set(graph.initializer, [*kept, *weights])
        _set(graph.input, [value for value in inputs if value.name not in stored])


def _put_back(result: onnx.ModelProto, model: onnx.ModelProto) -> None:
    weights = {tensor.name: tensor for tensor in model.graph.initializer if _is_weight(tensor)}
    _set(result.graph.input, [value for value in result.graph.input if value.name not in weights])
    result.graph.initializer.extend(weights.values())
    _set(result.metadata_props, list(model.metadata_props))


def _is_weight(tensor: TensorProto) -> bool:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size > _LARGEST_TOLD


def _set(field, values) -> None:  # type: ignore[no-untyped-def]
    del field[:]
    field.extend(values)
