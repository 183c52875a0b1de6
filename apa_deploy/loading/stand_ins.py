"""What takes the place of the names that training frameworks leave in a pickle, so that none of them is imported.

numpy's arrays and scalars become `StoredArray`, bytes and sizes; paths, dates, configurations and log buffers
become objects that keep nothing and do nothing. Every other name stays refused.
"""

from __future__ import annotations

import argparse
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor

# numpy's codes of numbers: anything else (objects, text, records) is no weight.
_NUMBERS = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} | {"b1"}


class Inert:
    """Takes the place of an object that no deployment needs: accepts everything, keeps nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


class StoredType:
    """A numpy dtype by its code, such as `f4`, and its order of bytes."""

    def __init__(self, code: object = "", *_flags: object) -> None:
        self.code, self.order = str(code).lstrip("<>=|"), "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"


class StoredArray:
    """A numpy array as its pickle describes it; `tensor()` reads it."""

    def __init__(
        self, shape: object = (), dtype: object = None, data: object = b"", fortran: object = False
    ) -> None:
        self.shape, self.dtype, self.data, self.fortran = shape, dtype, data, bool(fortran)

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            _, self.shape, self.dtype, self.fortran, self.data = state

    def tensor(self) -> Tensor | None:
        """The numbers, copied; None where it holds none or fewer bytes than it says."""
        shape, dtype, data = self.shape, self.dtype, self.data
        if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
            return None
        if not (isinstance(dtype, StoredType) and dtype.code in _NUMBERS and isinstance(data, bytes)):
            return None
        element, sizes = np.dtype(dtype.order + dtype.code), [int(n) for n in shape]
        if math.prod(sizes) * element.itemsize != len(data):
            return None
        array = np.frombuffer(data, element).reshape(sizes, order="F" if self.fortran else "C")
        return torch.from_numpy(array.astype(element.newbyteorder("="), order="C"))


def _inert(*_args: object) -> Inert:
    return Inert()


def _mapping(*_factory: object) -> OrderedDict[Any, Any]:
    """A mapping with the items that follow, without its default factory; torch fills no subclass of dict."""
    return OrderedDict()


def _reconstruct(*_args: object) -> StoredArray:
    return StoredArray()


def _scalar(dtype: object = None, data: object = b"") -> StoredArray:
    return StoredArray((), dtype, data)


def _encode(text: object = "", *_encoding: object) -> bytes:
    """How pickles of protocol 2 spell bytes."""
    return text.encode("latin1", "replace") if isinstance(text, str) else b""


def _names(stand_in: Any, module: str, names: str) -> list[tuple[Any, str]]:
    return [(stand_in, f"{module}.{name}") for name in names.split()]


_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
_NODES = (
    "AnyNode ValueNode StringNode IntegerNode FloatNode BooleanNode BytesNode PathNode EnumNode "
    "InterpolationResultNode"
)
# (what stands in, the name that it stands in for)
STAND_INS: tuple[tuple[Any, str], ...] = (
    (Inert, "mmengine.logging.history_buffer.HistoryBuffer"),
    *((_inert, name) for name in ("getattr", "builtins.getattr", "__builtin__.getattr")),
    *((_encode, name) for name in ("_codecs.encode",)),
    *((stand_in, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core")
      for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _scalar))),
    (StoredArray, "numpy.ndarray"),
    (StoredType, "numpy.dtype"),
    *_names(Inert, "numpy.dtypes", "Float64DType Float32DType Float16DType Int64DType Int32DType BoolDType"),
    (_mapping, "collections.defaultdict"),
    *_names(_inert, "builtins", "list dict set int float str bool tuple object"),
    *_names(_inert, "__builtin__", "list dict set int float str unicode bool tuple object"),
    *_names(Inert, "pathlib", _PATHS), *_names(Inert, "pathlib._local", _PATHS),
    *_names(Inert, "datetime", "datetime date time timedelta timezone"),
    (argparse.Namespace, "types.SimpleNamespace"),
    (Inert, "torch.torch_version.TorchVersion"),
    *_names(Inert, "uuid", "UUID"), *_names(Inert, "decimal", "Decimal"), *_names(Inert, "fractions", "Fraction"),
    (Inert, "omegaconf.dictconfig.DictConfig"), (Inert, "omegaconf.listconfig.ListConfig"),
    *_names(Inert, "omegaconf.base", "ContainerMetadata Metadata"),
    *_names(Inert, "omegaconf.nodes", _NODES), (Inert, "typing.Any"),
    *((OrderedDict, f"{module}.AttributeDict") for module in (
        "lightning.fabric.utilities.data", "lightning_fabric.utilities.data",
        "pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing")),
)  # fmt: skip
ALLOWED: list[Any] = [argparse.Namespace, *STAND_INS]
