"""A program of torch.export (`.pt2`) as a graph: it has no modules left, so its activations are found in ONNX.

ExportedProgram -> torch.onnx.export, nothing rewritten -> recognised        truth: the program itself
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..functional import OPERATORS
from ..graph.recognise import recognise
from ..modules import symbolic_of
from .onnx_network import Engines, OriginalGraph

_OPSET = 18
_NAME = "program.onnx"


class ProgramError(InputError):
    """torch cannot write the program as ONNX. `reason`: its first line."""

    def __init__(self, path: Path, reason: str) -> None:
        saw = f"{path.name}: torch.onnx.export says: {reason}"
        super().__init__(saw, "a program that it can write as ONNX", "See --debug for the trace.")
        self.reason = reason


class ProgramEngines(Engines):
    """Beside the graph's evaluations the program itself, in float32 and float64."""

    def __init__(
        self, folder: tempfile.TemporaryDirectory[str], graph: onnx.ModelProto, folded: onnx.ModelProto,
        program: nn.Module,
    ) -> None:  # fmt: skip
        super().__init__(Path(folder.name) / _NAME, graph, folded)
        self._folder, self.program = folder, program  # the folder goes with the last user

    @cached_property
    def program64(self) -> nn.Module:
        return copy.deepcopy(self.program).double()


class ProgramGraph(OriginalGraph):
    """The graph of a program; what it answers, the program answers, so that torch.onnx is judged as well."""

    _engines: ProgramEngines

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """As the program: a tensor, or several."""
        if self._stored or self.watched:
            return super().forward(*inputs)
        if self.precision.dtype == torch.float32:
            return self._answer(self._engines.program, inputs)
        try:
            return self._answer(self._engines.program64, inputs)
        except RuntimeError:  # it makes float32 tensors inside, which do not go with float64 ones
            return super().forward(*inputs)

    def _answer(self, program: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        answer: Tensor | tuple[Tensor, ...] = program(*inputs)
        return answer if isinstance(answer, Tensor) else tuple(answer)


def graph_of_program(program: torch.export.ExportedProgram, path: Path) -> ProgramGraph:
    """The program from the file at `path` as a module; see `ProgramGraph`.

    Raises:
        ProgramError: torch cannot write it as ONNX.
    """
    folder = tempfile.TemporaryDirectory(prefix="apa-")
    written = Path(folder.name) / _NAME
    with quiet_torch():
        try:
            lowered = _with_canonical_nodes(program)
            made = torch.onnx.export(lowered, dynamo=True, opset_version=_OPSET, verbose=False)
            assert made is not None  # torch returns None only without dynamo
            made.save(written)
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            cause = error.__cause__ or error
            raise ProgramError(path, (str(cause).splitlines() or [type(cause).__name__])[0][:200]) from error
    graph = onnx.load(written)
    folded = onnx.ModelProto()
    folded.CopyFrom(graph)
    recognition = recognise(folded)
    return ProgramGraph(ProgramEngines(folder, graph, folded, program.module()), recognition)


def _with_canonical_nodes(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Calls of our operators become `com.apa` nodes, as our modules make them."""
    return program.run_decompositions({op._opoverload: symbolic_of(kind) for kind, op in OPERATORS.items()})


@contextmanager
def quiet_torch() -> Iterator[None]:
    """torch.onnx reports its steps by print, warnings and logging."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
