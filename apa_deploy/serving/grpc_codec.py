"""The protobuf messages of an inference to and from `InferRequest` and `InferReply`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from ..tensors.datatypes import BYTES, Datatype, of_array
from . import parameters as params
from .errors import RequestError
from .request import InferReply, InferRequest, StoredTensor, WantedOutput
from .tensors import array_from_bytes, bytes_from_array, check_shape, read_datatype

# Where the typed contents of a datatype lie; FP16 has none and travels raw.
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_PIECE = 1 << 14  # values that are converted in one step, during which no other thread runs


def decode(message: pb.ModelInferRequest) -> InferRequest:
    """The request in `message`.

    Raises:
        RequestError: it is malformed, or sizes do not add up.
    """
    parameters = values(message.parameters)
    params.refuse_unsupported(parameters, "shared_memory_region")  # it is a tensor's
    inputs, stored = _inputs(message)
    return InferRequest(
        inputs=inputs,
        stored=stored,
        outputs=[_read_wanted(output) for output in message.outputs] or None,
        id=message.id,
        timeout=params.seconds(parameters),
        binary=True,
        bytes=message.ByteSize(),
    )


def encode(reply: InferReply) -> pb.ModelInferResponse:
    """The message of a reply; every output as raw contents."""
    message = pb.ModelInferResponse(model_name=reply.model, model_version=reply.version, id=reply.id)
    for wanted, array in reply.outputs:
        output = message.outputs.add(name=wanted.name, datatype=of_array(array).name, shape=array.shape)
        # clients count raw contents by the outputs: one in shared memory has empty ones
        message.raw_output_contents.append(b"" if wanted.place else bytes_from_array(array))
        for name, value in wanted.place.parameters.items() if wanted.place else ():
            parameter = output.parameters[name]
            setattr(parameter, "string_param" if isinstance(value, str) else "int64_param", value)
    return message


def values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values; one without a value is left out."""
    if not parameters:
        return {}
    chosen = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice}


def _inputs(message: pb.ModelInferRequest) -> tuple[dict[str, np.ndarray], dict[str, StoredTensor]]:
    places = [params.place(values(tensor.parameters)) for tensor in message.inputs]
    raw, here = iter(message.raw_input_contents), places.count(None)  # raw contents are of the tensors sent here
    if (sent := len(message.raw_input_contents)) and sent != here:
        raise RequestError(f"{sent} raw contents", f"{here}, one an input", "Correct the message.")
    found: dict[str, np.ndarray] = {}
    stored: dict[str, StoredTensor] = {}
    for tensor, place in zip(message.inputs, places, strict=True):
        if tensor.name in found or tensor.name in stored:
            raise RequestError(f"input {tensor.name!r} twice", "each input once", "Send it once.")
        if tensor.parameters:
            params.refuse_unsupported(tensor.parameters)
        datatype, shape = read_datatype(tensor.datatype), check_shape(tuple(tensor.shape), tensor.name)
        if place is None:
            found[tensor.name] = _array(tensor, datatype, shape, next(raw, None))
        elif tensor.HasField("contents"):
            saw = f"input {tensor.name!r} with contents and shared memory"
            raise RequestError(saw, "one of them", "Leave one out.")
        else:
            stored[tensor.name] = StoredTensor(place, datatype.name, shape)
    return found, stored


def _array(tensor: Any, datatype: Datatype, shape: tuple[int, ...], raw: bytes | None) -> np.ndarray:
    if raw is None:
        return _read_typed(tensor, datatype, shape)
    if tensor.HasField("contents"):
        raise RequestError(f"input {tensor.name!r} with typed and raw contents", "one of them", "Leave one out.")
    return array_from_bytes(raw, datatype, shape, tensor.name)


def _read_typed(tensor: Any, datatype: Datatype, shape: tuple[int, ...]) -> np.ndarray:
    field = _CONTENTS.get(datatype.name)
    contents = getattr(tensor.contents, field) if field else ()
    others = [one.name for one, _ in tensor.contents.ListFields() if one.name != field]
    if others:
        saw = f"input {tensor.name!r} of {datatype.name} with values in {', '.join(others)}"
        raise RequestError(saw, field or "raw_input_contents", "Send one kind of contents, that of the datatype.")
    if len(contents) != math.prod(shape):
        saw = f"input {tensor.name!r} of shape {list(shape)} with {len(contents)} values in {field or 'contents'}"
        raise RequestError(saw, f"{math.prod(shape)}, or raw_input_contents", "Send as much as the shape says.")
    if datatype is BYTES:
        return np.array([str(value, "utf-8", "replace") for value in contents], np.object_).reshape(shape)
    try:
        pieces = [np.array(contents[at : at + _PIECE], datatype.dtype) for at in range(0, len(contents), _PIECE)]
        return np.concatenate(pieces).reshape(shape)
    except OverflowError as error:
        raise RequestError(f"input {tensor.name!r}: {error}", datatype.name, "Correct the data.") from error


def _read_wanted(output: Any) -> WantedOutput:
    parameters = values(output.parameters)
    params.refuse_unsupported(parameters)
    classes = params.count(parameters, "classification") or 0
    return WantedOutput(output.name, True, classes, params.place(parameters))
