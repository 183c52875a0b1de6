"""Somebody's ONNX file as a torch module, so that every gate can judge by it.

`.double()` makes it the truth: the graph in float64, by onnx's reference evaluation. As it is, it is the file
in ONNX Runtime: the error that float32 had before anything was changed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from ..errors import InputError
from ..graph.functions import standard_opset, with_functions
from ..graph.node import activations, all_activations, read_parameters
from ..graph.recognise import Recognition
from ..graph.recognise.cut import Cut
from ..graph.reference_operators import stored_array
from ..graph.stored import stored
from ..graph.widen import widened
from ..modules import MODULES
from ..runtimes.ort_session import plain_session, session_of

# ONNX Runtime has kernels from opset 7 on; an older file is run as converted to 13.
_FIRST_OPSET_RUN, _OPSET_OF_OLD_FILES = 7, 13


class EvaluationError(InputError):
    """The original cannot be evaluated in float64. `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"onnx's reference evaluation says: {reason}",
            "a model that it can run in float64",
            "Check --input-shape or --inputs, or pass --no-verify.",
        )
        self.reason = reason


class NotRunError(InputError):
    """ONNX Runtime does not load the original. `reason`."""

    def __init__(self, error: Exception) -> None:
        self.reason = str(error).splitlines()[0].split(" : ")[-1].strip()[:300]
        super().__init__(
            f"ONNX Runtime says: {self.reason}",
            "a model that it runs, to hold the export against",
            "Export the model in float32 if it is in double, or pass --no-verify.",
        )


class Piece(nn.Module):
    """One activation as the original spells it, in float64."""

    def __init__(self, cut: Cut) -> None:
        super().__init__()
        self.source, self.target = cut.source, cut.root
        self._cut = cut

    def forward(self, z: Tensor) -> Tensor:
        """float64 of the shape of z: the first axis is free, the parameters broadcast along the others."""
        return torch.from_numpy(np.broadcast_to(self._cut.run(z.double().numpy()), z.shape).copy())


class Canonical(nn.Module):
    """An activation that was a canonical node already."""

    def __init__(self, node: onnx.NodeProto) -> None:
        super().__init__()
        self.source, self.target = node.input[0], node.output[0]
        p = read_parameters(node)
        self._module = MODULES[node.op_type](p.lambda_, p.kappa, p.axis)

    def forward(self, z: Tensor) -> Tensor:
        """In the type of z."""
        answer: Tensor = self._module(z)
        return answer


class Engines:
    """The original's evaluations, made when first needed and shared by copies.

    Args:
        path: what ONNX Runtime loads; None where that is the part of it that `graph` holds.
        graph: the same, functions inlined: what is evaluated in float64.
        folded: the same, its activations folded into canonical nodes.
        repaired: whether `graph` takes what the file itself does not.
    """

    def __init__(
        self, path: Path | None, graph: onnx.ModelProto, folded: onnx.ModelProto, repaired: bool = False
    ) -> None:
        self.path, self.graph, self.folded, self._repaired = path, graph, folded, repaired

    @cached_property
    def float32(self) -> Any:
        """Canonical nodes may have come without bodies, from torch or Polygraphy: they get ours."""
        try:
            return self._session()
        except RuntimeError as error:
            raise NotRunError(error) from error

    def _session(self) -> Any:
        old = standard_opset(self.graph) < _FIRST_OPSET_RUN
        if self.path and not (old or self._repaired or any(all_activations(self.graph.graph))):
            return plain_session(self.path)
        whole = onnx.ModelProto()
        whole.CopyFrom(self.graph)
        if old:
            from .onnx_file import converted

            whole = converted(whole, _OPSET_OF_OLD_FILES)
        return session_of(with_functions(whole))

    @cached_property
    def float64(self) -> Any:
        return evaluator_of(self.graph)

    def stored_in(self, precision: str) -> Any:
        """The float64 graph, what it stores rounded to `precision`."""
        return _evaluator(stored(widened(self.graph), self.folded, precision))


def evaluator_of(graph: onnx.ModelProto) -> Any:
    """onnx's evaluator of what `graph` means in float64; its functions must be inlined."""
    return _evaluator(widened(graph))


def _evaluator(model: onnx.ModelProto) -> Any:
    from onnx.reference import ReferenceEvaluator

    from ..graph.reference_operators import OPERATORS

    evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
    del model.graph.initializer[:]  # it holds them as arrays
    return evaluator


class OriginalGraph(nn.Module):
    """The file that `engines` run; `recognition`: what was folded in it, and what was left."""

    def __init__(self, engines: Engines, recognition: Recognition) -> None:
        super().__init__()
        self.precision: Tensor
        self.register_buffer("precision", torch.zeros(()))
        self._engines, self.recognition = engines, recognition
        self.inputs = tuple(engines.graph.graph.input)
        self.output_names = tuple(value.name for value in engines.graph.graph.output)
        self._stored: str | None = None
        self._evaluate: Any = None
        # names with dots, which add_module would not take
        self._modules.update({node.name: Canonical(node) for node in activations(engines.folded.graph)})
        self._modules.update({fold.name: Piece(fold.cut) for fold in recognition.found})

    def __deepcopy__(self, memo: dict[int, Any]) -> OriginalGraph:
        """Another module over the same engines, which are only read."""
        copied = type(self)(self._engines, self.recognition)
        copied.precision = self.precision.clone()
        return copied

    def stored_in(self, precision: str) -> OriginalGraph:
        """A float64 copy that rounds its inputs, its weights and what its nodes answer to "fp16" or "bf16"."""
        copied = copy.deepcopy(self).double()
        copied._stored, copied._evaluate = precision, self._engines.stored_in(precision)
        return copied

    @property
    def session(self) -> Any:
        """The file in ONNX Runtime, as it came."""
        return self._engines.float32

    @property
    def graph(self) -> onnx.ModelProto:
        """As it came, functions inlined; not to be changed."""
        return self._engines.graph

    @property
    def whole(self) -> bool:
        """Whether all of the file can be run here; else up to `output_names`: see `foreign`."""
        return self._engines.path is not None

    @property
    def folded(self) -> onnx.ModelProto:
        """A copy of the graph with canonical nodes."""
        model = onnx.ModelProto()
        model.CopyFrom(self._engines.folded)
        return model

    def get_submodule(self, target: str) -> nn.Module:
        """The activation called `target`; its dots are no path."""
        found = self._modules.get(target)
        return found if found is not None else super().get_submodule(target)

    @property
    def watched(self) -> bool:
        """Whether somebody hooks an activation."""
        return any(piece is not None and piece._forward_hooks for piece in self._modules.values())

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs in the file's order, for the inputs in the file's order."""
        double = self.precision.dtype == torch.float64
        feed = {
            value.name: _typed(tensor, value.type.tensor_type.elem_type, double)
            for value, tensor in zip(self.inputs, inputs, strict=True)
        }
        if self._stored:
            feed = {name: stored_array(array, self._stored) for name, array in feed.items()}
        values = self._in_float64(feed) if double else self._engines.float32.run(list(self.output_names), feed)
        return tuple(torch.from_numpy(np.array(value)) for value in values)

    def _in_float64(self, feed: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        try:
            evaluator = self._evaluate or self._engines.float64
            values = evaluator.run(None, feed, intermediate=self.watched)
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, NotImplementedError) as error:
            raise EvaluationError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error
        if not self.watched:
            return list(values)
        self._show(values)
        return [values[name] for name in self.output_names]

    def _show(self, values: Mapping[str, np.ndarray]) -> None:
        """Run the activations that somebody watches, so that the watcher sees what enters and leaves."""
        for piece in self._modules.values():
            if piece is not None and piece._forward_hooks and piece.source in values:
                piece(torch.from_numpy(np.array(values[piece.source])))  # type: ignore[index]


def _typed(tensor: Tensor, element: int, double: bool) -> np.ndarray:
    dtype = helper.tensor_dtype_to_np_dtype(element)
    floats = element in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    return tensor.numpy().astype(np.float64 if double and floats else dtype)
