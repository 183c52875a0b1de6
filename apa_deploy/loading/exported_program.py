"""A program of torch.export (`.pt2`) as a network: it has no modules left, so its activations are found in ONNX.

ExportedProgram -> torch.onnx.export, nothing rewritten -> recognised        truth: the program itself
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.export.graph_signature import ConstantArgument, OutputKind
from torch.utils._pytree import TreeSpec, tree_unflatten

from ..errors import InputError
from ..functional import OPERATORS
from ..graph.read import read_graph
from ..graph.recognise import recognise
from ..modules import symbolic_of
from ..network import FLOAT32, TRUTH, Exchange, Metadata
from ..tensors.signature import Feed, Shape, read_signature
from .onnx_file import with_rows, with_sizes
from .onnx_network import OnnxNetwork
from .torch_network import as_array, cast_floats, flatten_outputs, names_from_paths
from .torch_trace import quiet_torch
from .trusted import NOTICE

_OPSET = 18
_NAME = "program.onnx"


class ProgramError(InputError):
    """torch cannot write the program as ONNX. `reason`: its first line."""

    def __init__(self, path: Path, reason: str) -> None:
        saw = f"{path.name}: torch.onnx.export says: {reason}"
        super().__init__(saw, "a program that it can write as ONNX", "See --debug for the trace.")
        self.reason = reason


class ProgramNetwork(OnnxNetwork):
    """The graph of a program; what it answers, the program answers, so that torch.onnx is judged as well."""

    program: nn.Module
    called_with: TreeSpec  # how its arguments nest
    _folder: tempfile.TemporaryDirectory[str]  # goes with the network

    @property
    def module(self) -> nn.Module:
        return self.program

    @cached_property
    def _double(self) -> nn.Module:
        return copy.deepcopy(self.program).double()

    def outputs(self, feed: Feed, dtype: str = TRUTH, exchange: Exchange | None = None) -> Feed:
        """As the program's; the graph's where its insides are looked at or it stores a half type."""
        if exchange or dtype not in (TRUTH, FLOAT32):
            return super().outputs(feed, dtype, exchange)
        element = torch.float32 if dtype == FLOAT32 else torch.float64
        tensors = [cast_floats(feed[spec.name], element) for spec in self.signature.inputs]
        try:
            positional, named = tree_unflatten(tensors, self.called_with)
            with torch.inference_mode():
                answer = (self.program if dtype == FLOAT32 else self._double)(*positional, **named)
        except RuntimeError:  # it makes float32 tensors inside, which do not go with float64 ones
            return super().outputs(feed, dtype)
        values = dict(flatten_outputs(answer)).values()
        return dict(zip(self.output_names, map(as_array, values), strict=True))


def network_from_program(
    program: torch.export.ExportedProgram, path: Path, input_shape: Shape | None = None, inputs: Sequence[str] = ()
) -> ProgramNetwork:
    """The program from the file at `path`; see `ProgramNetwork`.

    Raises:
        ProgramError: torch cannot write it as ONNX.
        InputError: `input_shape` contradicts it.
    """
    folder = tempfile.TemporaryDirectory(prefix="apa-")
    written = Path(folder.name) / _NAME
    with quiet_torch():
        try:
            made = torch.onnx.export(
                _with_canonical_nodes(program),
                dynamo=True,
                opset_version=_OPSET,
                verbose=False,
                output_names=_name_outputs(program),
            )
            assert made is not None  # torch returns None only without dynamo
            made.save(written)
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            cause = error.__cause__ or error
            raise ProgramError(path, (str(cause).splitlines() or [type(cause).__name__])[0][:200]) from error
    graph = read_graph(written, weights=True)
    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    recognition = recognise(folded)
    signature, notices = with_sizes(read_signature(graph), input_shape, inputs)
    signature = with_rows(signature, graph)
    names = tuple(value.name for value in graph.graph.output)
    metadata = Metadata(path.stem, output_names=names, notices=(NOTICE, *notices))
    network = ProgramNetwork(written, graph, folded, recognition, signature, metadata)
    network.program, network._folder = program.module(), folder
    network.called_with = program.call_spec.in_spec
    return network


def _name_outputs(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """As of a network: torch.onnx would name them after the operators that they come from."""
    kinds = (one.arg for one in program.graph_signature.output_specs if one.kind is OutputKind.USER_OUTPUT)
    leaves = [kind.value if isinstance(kind, ConstantArgument) else torch.empty(()) for kind in kinds]
    answer = tree_unflatten(leaves, program.call_spec.out_spec)
    return names_from_paths([path for path, _ in flatten_outputs(answer)])


def _with_canonical_nodes(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Calls of our operators become `com.apa` nodes, as our modules make them."""
    return program.run_decompositions({op._opoverload: symbolic_of(kind) for kind, op in OPERATORS.items()})
