"""The protocol's datatypes beside numpy's, ONNX's and the model configuration's: one table.

BF16 is absent: ONNX Runtime takes no such array from numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Datatype:
    """`name` in the protocol, `dtype` in numpy, `config` in config.pbtxt, `onnx`: `TensorProto.DataType`."""

    name: str
    dtype: np.dtype
    config: str
    onnx: int


def _row(name: str, dtype: type, onnx: int, config: str = "") -> Datatype:
    return Datatype(name, np.dtype(dtype), config or f"TYPE_{name}", onnx)


_ALL = (
    _row("BOOL", np.bool_, 9),
    _row("UINT8", np.uint8, 2),
    _row("UINT16", np.uint16, 4),
    _row("UINT32", np.uint32, 12),
    _row("UINT64", np.uint64, 13),
    _row("INT8", np.int8, 3),
    _row("INT16", np.int16, 5),
    _row("INT32", np.int32, 6),
    _row("INT64", np.int64, 7),
    _row("FP16", np.float16, 10),
    _row("FP32", np.float32, 1),
    _row("FP64", np.float64, 11),
    _row("BYTES", np.object_, 8, "TYPE_STRING"),
)
BYTES = _ALL[-1]
BY_NAME = {row.name: row for row in _ALL}
_BY_DTYPE = {row.dtype: row for row in _ALL}
_BY_ONNX = {row.onnx: row for row in _ALL}


def of_array(array: np.ndarray) -> Datatype:
    """The datatype of an array that a model returned."""
    return _BY_DTYPE[array.dtype]


def of_dtype(dtype: np.dtype) -> Datatype | None:
    """The datatype of a numpy type; None where the protocol has none."""
    return _BY_DTYPE.get(dtype)


def of_onnx(element_type: int) -> Datatype | None:
    """The datatype of an ONNX element type; None where the protocol or numpy has none."""
    return _BY_ONNX.get(element_type)
