"""Tensor contents to and from arrays: raw little-endian bytes, and JSON lists. Every size is checked first."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..tensors.datatypes import BY_NAME, BYTES, Datatype
from .errors import RequestError

MAX_RANK = 16  # ONNX Runtime and numpy take more; no network does
_LENGTH = struct.Struct("<I")
Buffer = bytes | bytearray | memoryview


def check_shape(shape: object, name: str) -> tuple[int, ...]:
    """`shape` as a tuple of positive integers.

    Raises:
        RequestError: it is anything else.
    """
    fits = isinstance(shape, Sequence) and len(shape) <= MAX_RANK and all(type(n) is int and n > 0 for n in shape)
    if not fits:
        raise RequestError(
            f"input {name!r} with shape {str(shape)[:80]}", "positive integers", "Send the real shape."
        )
    return tuple(shape)  # type: ignore[arg-type]


def array_from_bytes(data: Buffer, datatype: Datatype, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The array in `data`, a view where alignment allows one.

    Raises:
        RequestError: the size is not that of the shape.
    """
    if datatype is BYTES:
        return _strings(data, shape, name)
    wanted = math.prod(shape) * datatype.dtype.itemsize
    if len(data) != wanted:
        raise _wrong_size(name, shape, f"{len(data)} bytes", f"{wanted} bytes of {datatype.name}")
    if datatype.name == "BOOL":  # a byte may hold anything, a bool may not
        return (np.frombuffer(data, np.uint8) != 0).reshape(shape)
    return np.require(np.frombuffer(data, datatype.dtype).reshape(shape), requirements="A")


def buffer_from_array(array: np.ndarray) -> Buffer:
    """As `bytes_from_array`, without a copy where the array allows it."""
    if array.dtype == np.object_ or not array.flags.c_contiguous or not array.size:
        return bytes_from_array(array)
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def bytes_from_array(array: np.ndarray) -> bytes:
    """Raw contents; each string as a 4-byte length and its UTF-8 bytes."""
    if array.dtype != np.object_:
        return array.tobytes()
    encoded = [_encode(value) for value in array.ravel()]
    return b"".join(_LENGTH.pack(len(value)) + value for value in encoded)


def count_bytes(array: np.ndarray) -> int:
    """The memory that an array holds; its `nbytes` has no more than the pointers to strings."""
    strings = sum(map(sys.getsizeof, array.flat)) if array.dtype == np.object_ else 0
    return array.nbytes + strings


def array_from_list(data: object, datatype: Datatype, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The array of a flat or nested JSON list.

    Raises:
        RequestError: a value is not of the datatype, or their number is not that of the shape.
    """
    if not isinstance(data, list):
        raise RequestError(f"input {name!r} with data {str(data)[:40]!r}", "a list", "Send data as a list.")
    if len(data) != math.prod(shape) and len(data) != (shape or (1,))[0]:
        raise _wrong_size(name, shape, f"{len(data)} values", f"{math.prod(shape)}, flat or nested as the shape")
    _check_kind(data, datatype, name)
    try:
        with np.errstate(over="raise"):  # JSON has no infinity: none is to come of a number beyond the datatype
            array = np.array(data, dtype=datatype.dtype)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise RequestError(f"input {name!r}: {error}", f"a list of {datatype.name}", "Correct the data.") from error
    if array.size != math.prod(shape) or array.shape not in ((array.size,), shape):
        raise _wrong_size(name, shape, f"data of shape {array.shape}", "that shape, or a flat list")
    return array.reshape(shape)


def list_from_array(array: np.ndarray, name: str) -> list[Any]:
    """A flat JSON list.

    Raises:
        RequestError: JSON has no word for a value (NaN, infinity).
    """
    if array.dtype == np.object_:
        return [_encode(value).decode("utf-8", "replace") for value in array.ravel()]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RequestError(f"output {name!r} holds NaN or infinity", "numbers", "Ask for binary output.")
    return array.ravel().tolist()


# What a JSON value must be, by the kind of numpy's dtype; numpy itself would turn true into 1 and 1.5 into 1.
_KINDS: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float), "O": (str,)}


def _check_kind(data: list[Any], datatype: Datatype, name: str) -> None:
    allowed = _KINDS[datatype.dtype.kind]
    for value in _leaves(data, MAX_RANK):
        if type(value) not in allowed:
            raise RequestError(f"input {name!r} holds {str(value)[:40]!r}", datatype.name, "Correct the data.")


def _leaves(data: list[Any], depth: int) -> Iterator[Any]:
    for value in data:
        if type(value) is list and depth:
            yield from _leaves(value, depth - 1)
        else:
            yield value


def _strings(data: Buffer, shape: tuple[int, ...], name: str) -> np.ndarray:
    values = list(_split(memoryview(data), name))
    if len(values) != math.prod(shape):
        raise _wrong_size(name, shape, f"{len(values)} strings", f"{math.prod(shape)}")
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array.reshape(shape)


def _split(data: memoryview, name: str) -> Iterator[str]:
    at = 0
    while at < len(data):
        end = at + _LENGTH.size
        length = _LENGTH.unpack(data[at:end])[0] if end <= len(data) else len(data)
        if end + length > len(data):
            raise RequestError(
                f"input {name!r} ends within a string", "4-byte length, then bytes", "Correct the data."
            )
        yield str(data[end : end + length], "utf-8", "replace")
        at = end + length


def _encode(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _wrong_size(name: str, shape: tuple[int, ...], saw: str, wanted: str) -> RequestError:
    return RequestError(
        f"input {name!r} of shape {list(shape)} with {saw}", wanted, "Send as much as the shape says."
    )


def read_datatype(name: object) -> Datatype:
    """The datatype that a request names.

    Raises:
        RequestError: it is none of the protocol's.
    """
    datatype = BY_NAME.get(name) if isinstance(name, str) else None
    if datatype is None:
        raise RequestError(f"datatype {str(name)[:40]!r}", ", ".join(BY_NAME), "Use one of these.")
    return datatype
