"""A loaded model -> canonical ONNX: one `com.apa` node for each use of an activation, all else standard.

The module is traced in float64, so that batch norm and constants are folded in float64, and the finished
graph is narrowed to float32, each constant rounded once.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from apa_deploy.errors import InputError
from apa_deploy.graph.narrow import narrowed
from apa_deploy.graph.node import activations, is_activation
from apa_deploy.loading.exported_program import quiet_torch
from apa_deploy.loading.load import InputSpec, Model
from apa_deploy.loading.onnx_network import OriginalGraph
from apa_deploy.parity.inputs import INPUT, seeded_feeds
from apa_deploy.replace import Replacements, replace_activations

OPSETS = range(18, 24)
_LOWEST_IR = 8  # the first with model-local functions
_SCOPES = "pkg.torch.onnx.name_scopes"


class ExportError(InputError):
    """torch cannot trace the network. `reason`: its first line."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"torch.export says: {reason}", "a network that can be traced", "See --debug for the trace."
        )
        self.reason = reason


@dataclass(frozen=True)
class TraceOptions:
    """`batch`: fixed size, or None for a dynamic one."""

    opset: int = 18
    batch: int | None = None


@dataclass(frozen=True)
class Canonical:
    """The canonical model, the module that was traced (float64, ours in place), and what was replaced."""

    proto: onnx.ModelProto
    module: nn.Module
    replacements: Replacements
    output_names: tuple[str, ...]


def canonical(model: Model, options: TraceOptions) -> Canonical:
    """Trace `model`; its own module stays as it is.

    Raises:
        ExportError: torch cannot trace it.
        InputError: the opset is not supported.
    """
    if options.opset not in OPSETS:
        raise InputError(f"--opset {options.opset}", "18 to 23", "Leave --opset out for 18.")
    if isinstance(model.module, OriginalGraph):
        from .from_onnx import canonical_from_onnx

        return canonical_from_onnx(model, options)
    module = copy.deepcopy(model.module).double().requires_grad_(False)
    replacements = replace_activations(module)
    example = _example(model.input, options)
    names = _output_names(model, module, example)
    proto = _traced(module, example, names, options, model.input)
    _name_after_modules(proto)
    _name_dimensions(proto, model.input)
    _strip_metadata(proto)
    proto.ir_version = lowest_ir_version(proto)
    return Canonical(narrowed(proto), module, replacements, names)


def lowest_ir_version(proto: onnx.ModelProto) -> int:
    """The lowest IR version that is legal for the model's opsets and functions: old runtimes read it."""
    return max(_LOWEST_IR, helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True))


def _example(spec: InputSpec, options: TraceOptions) -> Tensor:
    """Two samples where the batch is dynamic: torch.export takes a size of 1 for a constant."""
    feed = seeded_feeds(INPUT, spec, options.batch or 2)[0][INPUT]
    example = torch.from_numpy(feed)
    return example.double() if example.is_floating_point() else example


def _output_names(model: Model, module: nn.Module, example: Tensor) -> tuple[str, ...]:
    with torch.no_grad():
        try:
            outputs = module(example)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InputError(
                f"input of shape {tuple(example.shape)}: {str(error).splitlines()[0]}",
                f"a shape that {model.metadata.architecture} takes",
                "Give it with --input-shape CxHxW.",
            ) from error
    if model.metadata.output_names:
        return model.metadata.output_names
    count = 1 if isinstance(outputs, Tensor) else len(outputs)
    return ("logits",) if count == 1 else tuple(f"output_{i}" for i in range(count))


def _traced(
    module: nn.Module, example: Tensor, names: Sequence[str], options: TraceOptions, spec: InputSpec
) -> onnx.ModelProto:
    """Height and width are dynamic where the network allows, the batch unless it is fixed."""
    dynamic = {axis: torch.export.Dim.AUTO for axis in spec.axes if axis or not options.batch}
    with quiet_torch():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=options.opset,
                input_names=[INPUT],
                output_names=list(names),
                dynamic_shapes=(dynamic,),
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
            cause = error.__cause__ or error
            raise ExportError((str(cause).splitlines() or [type(cause).__name__])[0][:200]) from error
    assert program is not None  # torch returns None only without dynamo
    return program.model_proto


def _name_after_modules(proto: onnx.ModelProto) -> None:
    """Name canonical nodes by the path of their module; a second use of a shared module gets `#2`."""
    uses: dict[str, int] = {}
    for node in activations(proto.graph):
        path = _module_path(node) or node.name
        uses[path] = uses.get(path, 0) + 1
        node.name = path if uses[path] == 1 else f"{path}#{uses[path]}"


def _module_path(node: onnx.NodeProto) -> str:
    """The innermost module scope that torch recorded, the last scope being the operator itself."""
    recorded = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
    names = re.findall(r"'([^']*)'", recorded)
    return names[-2] if len(names) > 1 else ""


def _name_dimensions(proto: onnx.ModelProto, spec: InputSpec) -> None:
    """Call torch's symbols batch, height and width, wherever they stand."""
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    names = {dims[axis].dim_param: label for axis, label in spec.axes.items() if dims[axis].dim_param}
    if not names:
        return
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = pattern.sub(lambda match: names[match[0]], dim.dim_param)


def _strip_metadata(proto: onnx.ModelProto) -> None:
    """torch records source lines and module classes: paths of the exporting machine among them."""
    proto.graph.doc_string = proto.doc_string = ""
    del proto.metadata_props[:], proto.graph.metadata_props[:]
    graph = proto.graph
    items: list[Any] = [*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]
    for item in items:
        del item.metadata_props[:]
        item.doc_string = ""


def provenance(proto: onnx.ModelProto, facts: dict[str, object]) -> None:
    """Put `facts` into the model's metadata, under keys that begin with `apa.`."""
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = f"apa.{key}", value if isinstance(value, str) else json.dumps(value)


def sites(proto: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Canonical node name -> the values that enter and leave it; these names survive decomposition."""
    return {node.name: (node.input[0], node.output[0]) for node in proto.graph.node if is_activation(node)}
