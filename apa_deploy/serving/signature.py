"""What a model takes and gives: read from the ONNX file, and held against every request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import onnx

from ..errors import InputError
from ..tensors import datatypes
from ..tensors.signature import ANY, Signature, TensorSpec, read_spec
from .errors import RequestError
from .request import WantedOutput


@dataclass(frozen=True)
class RequestSignature(Signature):
    """`max_batch` 0: the model does not batch; else the first dimension of every tensor counts rows."""

    max_batch: int = 0

    def rows(self, inputs: Mapping[str, np.ndarray]) -> int:
        """Check every input and return the number of rows (1 where the model does not batch).

        Raises:
            RequestError: a name, datatype or shape does not fit.
        """
        if len(inputs) != len(self.inputs):
            self._refuse_names(inputs)
        rows = 0
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None:
                self._refuse_names(inputs)
            _check(spec, array)
            rows = self._agreed_rows(rows, array)
        return rows

    def choose_outputs(self, asked: Sequence[WantedOutput] | None, *, binary: bool) -> list[WantedOutput]:
        """The outputs to answer with: those asked for, or all.

        Raises:
            RequestError: a name is unknown or comes twice.
        """
        if asked is None:
            return [WantedOutput(spec.name, binary) for spec in self.outputs]
        names = [output.name for output in asked]
        known = {spec.name for spec in self.outputs}
        if not known.issuperset(names) or len(set(names)) != len(names):
            raise RequestError(
                f"outputs {', '.join(names)[:80]}", f"some of {', '.join(sorted(known))}", "Name these."
            )
        return list(asked)

    def without_batching(self) -> RequestSignature:
        """The same without batching."""
        return replace(self, max_batch=0)

    def _agreed_rows(self, rows: int, array: np.ndarray) -> int:
        if not self.max_batch:
            return 1
        if rows and len(array) != rows:
            raise RequestError(f"batches of {rows} and {len(array)}", "one batch size", "Send equal batches.")
        if len(array) > self.max_batch:
            raise RequestError(f"a batch of {len(array)}", f"at most {self.max_batch}", "Send smaller batches.")
        return len(array)

    def _refuse_names(self, inputs: Mapping[str, np.ndarray]) -> NoReturn:
        saw, wanted = ", ".join(sorted(inputs))[:80] or "none", ", ".join(spec.name for spec in self.inputs)
        raise RequestError(f"inputs {saw}", wanted, "Send every input by its name.")


def _check(spec: TensorSpec, array: np.ndarray) -> None:
    if array.dtype != spec.datatype.dtype:
        saw = f"input {spec.name!r} of {datatypes.of_array(array).name}"
        raise RequestError(saw, spec.datatype.name, "Convert the data.")
    fits = array.ndim == len(spec.declared) and all(
        want in (ANY, got) for want, got in zip(spec.declared, array.shape, strict=True)
    )
    if not fits:
        saw = f"input {spec.name!r} of shape {list(array.shape)}"
        raise RequestError(saw, f"{list(spec.declared)} (-1: any)", "Send the model's shape.")


def signature_from_onnx(model: onnx.ModelProto, max_batch: int) -> RequestSignature:
    """The signature of a model; `max_batch` applies where the file leaves the batch open everywhere.

    Raises:
        InputError: an input or output is no tensor of a datatype that the protocol and the runtime share.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    batch = max_batch if _open_batch([*inputs, *model.graph.output]) else 0
    return RequestSignature(tuple(map(_spec, inputs)), tuple(map(_spec, model.graph.output)), max_batch=batch)


def signature_from_engine(signature: Signature, max_batch: int) -> RequestSignature:
    """The signature of an engine; where its batch is open, `max_batch` or what its profile allows.

    Raises:
        InputError: an input or output is of a type that the protocol has not.
    """
    tensors = (*signature.inputs, *signature.outputs)
    is_open = all(tensor.datatype and tensor.declared[:1] == (ANY,) for tensor in tensors)
    allowed = min((tensor.largest[0] for tensor in tensors if tensor.largest), default=0)
    largest = min(max_batch, allowed) if is_open else 0
    return RequestSignature(signature.inputs, signature.outputs, max_batch=largest)


def _open_batch(values: Sequence[Any]) -> bool:
    """Whether every value has an open first dimension, and those that are named bear one name."""
    shapes = [value.type.tensor_type.shape.dim for value in values]
    if not all(len(shape) and not shape[0].HasField("dim_value") for shape in shapes):
        return False
    return len({shape[0].dim_param for shape in shapes} - {""}) <= 1


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    datatype = datatypes.of_onnx(tensor.elem_type)
    if datatype is None or not tensor.HasField("shape"):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        saw = f"{value.name} of {kind}" if datatype is None else f"{value.name} of unknown rank"
        raise InputError(saw, "tensors of known rank and a datatype of the protocol", "Export the model again.")
    return read_spec(value)
