"""A torch module -> canonical ONNX: one `com.apa` node for each use of an activation, all else standard.

The module is traced in float64, so that batch norm and constants are folded in float64, and the finished
graph is narrowed to float32, each constant rounded once.
"""

from __future__ import annotations

import copy
import functools
import inspect
import keyword
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..graph.functions import lowest_ir_version
from ..graph.narrow import narrow
from ..graph.node import activations, read_parameters
from ..graph.recognise import recognise
from ..graph.sites import ActivationSite, NoMatch, site_of_node, use_name
from ..modules import freeze
from ..network import FLOAT32, Network, Trace
from ..replace import replace_activations
from ..tensors.inputs import seeded_feeds
from ..tensors.signature import Feed, Signature

OPSETS = range(18, 24)
_SCOPES = "pkg.torch.onnx.name_scopes"


class ExportError(InputError):
    """torch cannot trace the network. `reason`: its first line."""

    def __init__(self, reason: str) -> None:
        do = "See --debug for the trace."
        if "data-dependent" in reason:
            do = "Write what depends on values with torch.where or torch.cond; --debug shows where it stands."
        super().__init__(f"torch.export says: {reason}", "a network that can be traced", do)
        self.reason = reason


def trace_module(
    network: Network,
    arguments: Callable[[Feed], tuple[tuple[Tensor, ...], dict[str, Tensor]]],
    flatten: Callable[[Any], tuple[Tensor, ...]],
    opset: int,
    batch: int | None,
) -> Trace:
    """Trace a copy of the network's module, its activations replaced by ours.

    Args:
        arguments: what the module is called with for a feed, in float64: by position, and by name.
        flatten: the tensors in an answer of the module.

    Raises:
        ExportError: torch cannot trace it.
        InputError: the opset is not supported, or the input does not fit the network.
    """
    if opset not in OPSETS:
        raise InputError(f"--opset {opset}", "18 to 23", "Leave --opset out for 18.")
    module = freeze(copy.deepcopy(network.module).double())
    replacements = replace_activations(module)
    names = network.output_names
    # two samples where the batch is dynamic: torch.export takes a size of 1 for a constant
    feed = seeded_feeds(network.signature, batch or 2)[0]
    positional, named = arguments(feed)
    _flatten_answer(module, flatten, [spec.name for spec in network.signature.inputs], set(named))
    auto = torch.export.Dim.AUTO
    dynamic = {
        spec.name: {axis: auto for axis in spec.open_axes if axis or not batch} for spec in network.signature.inputs
    }
    with quiet_torch():
        try:
            # open axes are dynamic where the network allows, the batch unless it is fixed
            program = torch.onnx.export(
                module,
                positional,
                kwargs=named,
                dynamo=True,
                opset_version=opset,
                input_names=list(dynamic),
                output_names=list(names),
                dynamic_shapes=dynamic if named else tuple(dynamic.values()),
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
            network.outputs(feed, FLOAT32)  # an input that does not fit is refused by the network's own words
            cause = error.__cause__ or error
            raise ExportError((str(cause).splitlines() or [type(cause).__name__])[0][:200]) from error
    assert program is not None  # torch returns None only without dynamo
    proto = program.model_proto
    recognition = recognise(proto)  # what no module holds: functions, packed or fixed parameters, scripted parts
    _name_after_modules(proto, module, {fold.name for fold in recognition.found})
    _name_dimensions(proto, network.signature)
    _strip_metadata(proto)
    proto.ir_version = lowest_ir_version(proto)
    proto = narrow(proto)
    sites = tuple(site_of_node(node) for node in activations(proto.graph))
    folds = tuple(ActivationSite(f.name, f.kind, f.parameters, "in the graph") for f in recognition.found)
    curves = {fold.name: fold.cut.curve for fold in recognition.found}
    refused = [r for r in replacements.refused if not any(name.startswith(r.path) for name in curves)]
    refused += [NoMatch(r.node, r.reason) for r in recognition.refused if r.is_learned]
    return Trace(proto, sites, (*replacements.found, *folds), names, tuple(refused), curves)


def _flatten_answer(
    module: nn.Module, flatten: Callable[[Any], tuple[Tensor, ...]], inputs: list[str], named: set[str]
) -> None:
    """Let `module` take `inputs`, those in `named` by name, and answer a tensor or a tuple of them.

    torch.export asks its forward for names, and `*args` and `**kwargs` tell none.
    """
    forward = module.forward

    @functools.wraps(forward)
    def flat(*positional: Any, **named: Any) -> Any:
        answer = forward(*positional, **named)
        return answer if isinstance(answer, Tensor) else flatten(answer)

    if all(name.isidentifier() and not keyword.iskeyword(name) for name in inputs):
        first, last = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, last if name in named else first) for name in inputs]
        flat.__signature__ = inspect.Signature(sorted(parameters, key=lambda one: one.kind))  # type: ignore[attr-defined]
    module.forward = flat


def _name_after_modules(proto: onnx.ModelProto, module: nn.Module, folded: set[str]) -> None:
    """Name canonical nodes by the path of their module, the first where it has several; a second use gets `#2`.

    Args:
        folded: names of those that no module is.
    """
    first = {id(part): path for path, part in module.named_modules()}
    known = {path: first[id(part)] for path, part in module.named_modules(remove_duplicate=False)}
    uses: dict[str, int] = {}
    for node in activations(proto.graph):
        path = _module_path(node)
        path = known.get(path, path) or (node.name if node.name in folded else _path_by_parameters(node, module))
        uses[path] = uses.get(path, 0) + 1
        node.name = use_name(path, uses[path])


def _path_by_parameters(node: onnx.NodeProto, module: nn.Module) -> str:
    """Where torch records no scope, as below autocast: the first module that draws the same curve."""
    wanted = read_parameters(node)
    for path, part in module.named_modules():
        effective = getattr(part, "effective", None) if getattr(part, "kind", "") == node.op_type else None
        if effective is not None and np.shape(effective.lambda_) == np.shape(wanted.lambda_):
            pairs = ((effective.lambda_, wanted.lambda_), (effective.kappa, wanted.kappa))
            if all(np.allclose(one, other, rtol=1e-6, atol=0) for one, other in pairs):  # attributes are float32
                return path
    return node.name


def _module_path(node: onnx.NodeProto) -> str:
    """The innermost module scope that torch recorded, the last scope being the operator itself."""
    recorded = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
    names = re.findall(r"'([^']*)'", recorded)
    return names[-2] if len(names) > 1 else ""


def _name_dimensions(proto: onnx.ModelProto, signature: Signature) -> None:
    """Call torch's symbols batch, height and width, wherever they stand."""
    names: dict[str, str] = {}
    for value, spec in zip(proto.graph.input, signature.inputs, strict=True):
        dims = value.type.tensor_type.shape.dim
        for axis, label in spec.open_axes.items():
            if dims[axis].dim_param:
                names.setdefault(dims[axis].dim_param, label)
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


@contextmanager
def quiet_torch() -> Iterator[None]:
    """torch.onnx reports its steps by print, warnings and logging."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in ("torch.onnx", "torch.export")}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
