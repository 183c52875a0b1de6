"""The HTTP body of an inference: JSON, or JSON followed by binary tensors (the binary tensor extension).

<JSON of Inference-Header-Content-Length bytes><tensor><tensor>...
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tensors.datatypes import BYTES, of_array
from ..tensors.signature import ANY, TensorSpec
from . import parameters as params
from .errors import RequestError
from .request import InferReply, InferRequest, Place, StoredTensor, WantedOutput
from .tensors import (
    Buffer,
    array_from_bytes,
    array_from_list,
    buffer_from_array,
    check_shape,
    list_from_array,
    read_datatype,
)

HEADER_LENGTH = "inference-header-content-length"
Json = dict[str, Any]


def decode(body: bytes, header_length: str | None, only: TensorSpec | None = None) -> InferRequest:
    """The request in `body`; `header_length`: the header of the binary extension.

    A length of 0 says that the body is the contents of the only input, `only`, of one row; the answer is binary.

    Raises:
        RequestError: it is malformed, or sizes do not add up.
    """
    end = json_end(header_length, len(body))
    if end == 0 and header_length is not None:
        return _raw(body, only)
    document = json_object(body[:end])
    parameters = object_at(document, "parameters")
    params.refuse_unsupported(parameters, "shared_memory_region")  # it is a tensor's
    binary = params.flag(parameters, "binary_data_output", False)
    inputs, stored = _inputs(document, memoryview(body)[end:])
    return InferRequest(
        inputs=inputs,
        stored=stored,
        outputs=_outputs(document, binary),
        id=_text(document.get("id", ""), "id"),
        timeout=params.seconds(parameters),
        binary=binary,
        bytes=len(body),
    )


def encode(reply: InferReply) -> tuple[list[Buffer], dict[str, str]]:
    """The body of a reply, in parts that are not copied, and the headers that describe it."""
    blobs: list[Buffer] = []
    outputs = [_output(wanted, array, blobs) for wanted, array in reply.outputs]
    document: Json = {"model_name": reply.model, "model_version": reply.version, "outputs": outputs}
    if reply.id:
        document["id"] = reply.id
    head = json.dumps(document, separators=(",", ":")).encode()
    if not blobs:
        return [head], {"content-type": "application/json"}
    return [head, *blobs], {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def json_object(data: bytes) -> Json:
    """One JSON object.

    Raises:
        RequestError: it is malformed, nested too deeply, or no object.
    """
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"JSON: {str(error)[:120]}", "a JSON object", "Correct the body.") from error
    if not isinstance(document, dict):
        raise RequestError(f"JSON of type {type(document).__name__}", "an object", "Correct the body.")
    return document


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON; send such values in binary")


def json_end(header_length: str | None, size: int) -> int:
    """Where the JSON of a body of `size` bytes ends, by the header of the binary extension.

    Raises:
        RequestError: the header is no number, or larger than the body.
    """
    if header_length is None:
        return size
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 16):
        raise RequestError(f"{HEADER_LENGTH}: {header_length[:40]!r}", "a number of bytes", "Correct the header.")
    if int(header_length) > size:
        raise RequestError(f"{HEADER_LENGTH}: {header_length}", f"at most the body's {size}", "Correct the header.")
    return int(header_length)


def _raw(body: bytes, only: TensorSpec | None) -> InferRequest:
    if only is None:
        raise RequestError(f"{HEADER_LENGTH}: 0", "a model of one input", "Send the JSON that names the inputs.")
    dims = [1 if at == 0 and dim == ANY else dim for at, dim in enumerate(only.declared)]
    known = math.prod(dim for dim in dims if dim != ANY) * only.datatype.dtype.itemsize
    if dims.count(ANY) > 1 or (ANY in dims and only.datatype is BYTES):
        raise RequestError(f"{HEADER_LENGTH}: 0", f"the sizes of {only.name}", "Send the JSON with the shape.")
    shape = tuple(len(body) // max(1, known) if dim == ANY else dim for dim in dims)
    array = array_from_bytes(body, only.datatype, check_shape(shape, only.name), only.name)
    return InferRequest(inputs={only.name: array}, binary=True, bytes=len(body))


def _inputs(document: Json, blobs: memoryview) -> tuple[dict[str, np.ndarray], dict[str, StoredTensor]]:
    entries = _entries(document.get("inputs"), "inputs")
    found: dict[str, np.ndarray] = {}
    stored: dict[str, StoredTensor] = {}
    at = 0
    for entry in entries:
        name = _text(entry.get("name"), "the name of an input")
        size = _binary_size(entry)
        if size is not None and at + size > len(blobs):
            raise RequestError(
                f"input {name!r} beyond the body's end", f"{at + size} bytes", "Send the whole body."
            )
        if name in found or name in stored:
            raise RequestError(f"input {name!r} twice", "each input once", "Send it once.")
        place = params.place(object_at(entry, "parameters"))
        if place:
            stored[name] = _read_stored(entry, name, place)
        else:
            found[name] = _array(entry, name, None if size is None else blobs[at : at + size])
        at += size or 0
    if at != len(blobs):
        raise RequestError(f"{len(blobs)} bytes after the JSON", f"{at}", "Send as much as binary_data_size says.")
    return found, stored


def _read_stored(entry: Json, name: str, place: Place) -> StoredTensor:
    if "data" in entry:
        raise RequestError(f"input {name!r} with data and shared memory", "one of them", "Leave one out.")
    shape = check_shape(entry.get("shape"), name)
    return StoredTensor(place, read_datatype(entry.get("datatype")).name, shape)


def _binary_size(entry: Json) -> int | None:
    parameters = object_at(entry, "parameters")
    params.refuse_unsupported(parameters)
    return params.count(parameters, "binary_data_size")


def _array(entry: Json, name: str, blob: memoryview | None) -> np.ndarray:
    datatype, shape = read_datatype(entry.get("datatype")), check_shape(entry.get("shape"), name)
    if blob is None:
        return array_from_list(entry.get("data"), datatype, shape, name)
    if "data" in entry:
        raise RequestError(f"input {name!r} with data and binary_data_size", "one of them", "Leave one out.")
    return array_from_bytes(blob, datatype, shape, name)


def _outputs(document: Json, binary: bool) -> list[WantedOutput] | None:
    if not document.get("outputs"):
        return None
    return [_read_wanted(entry, binary) for entry in _entries(document["outputs"], "outputs")]


def _read_wanted(entry: Json, binary: bool) -> WantedOutput:
    parameters = object_at(entry, "parameters")
    params.refuse_unsupported(parameters)
    name = _text(entry.get("name"), "the name of an output")
    classes = params.count(parameters, "classification") or 0
    return WantedOutput(name, params.flag(parameters, "binary_data", binary), classes, params.place(parameters))


def _output(wanted: WantedOutput, array: np.ndarray, blobs: list[Buffer]) -> Json:
    entry: Json = {"name": wanted.name, "datatype": of_array(array).name, "shape": list(array.shape)}
    if wanted.place:
        entry["parameters"] = wanted.place.parameters
    elif wanted.binary:
        blobs.append(buffer_from_array(array))
        entry["parameters"] = {"binary_data_size": len(blobs[-1])}
    else:
        entry["data"] = list_from_array(array, wanted.name)
    return entry


def _entries(value: object, what: str) -> list[Json]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise RequestError(
            f"{what}: {str(value)[:40]!r}", "a list of objects", f"Send {what} as the protocol says."
        )
    return value


def object_at(document: Mapping[str, Any], name: str) -> Json:
    """The object under `name`, empty where there is none.

    Raises:
        RequestError: it is something else.
    """
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise RequestError(f"{name}: {str(value)[:40]!r}", "an object", "Correct the body.")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{what}: {str(value)[:40]!r}", "a string", "Correct the body.")
    return value
