"""Weights that lie beside an ONNX file.

onnx's own reader refuses every link, and with it the cache of model hubs, where a model and its weights are links
into one folder of blobs. Here a link may lead to the folder of the model, or of the file that the model links to.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from .values import all_tensors


def read_weights(model: onnx.ModelProto, path: Path) -> None:
    """Put the weights beside the file at `path` into `model`, which was read from it.

    Raises:
        OSError: a file of weights cannot be read.
        ValueError: one lies elsewhere, or is too short.
    """
    for tensor in all_tensors(model):  # onnx's own reader leaves out weights of branches and bodies
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            tensor.raw_data = _bytes_of(tensor.name, info, _file_of(info.location, path))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def _file_of(location: str, path: Path) -> Path:
    """Where `location` leads from the model at `path`: nowhere outside."""
    named = Path(location)
    folders = (path.parent.resolve(), path.resolve().parent)
    target = (path.parent / named).resolve()
    if named.is_absolute() or ".." in named.parts or not any(target.is_relative_to(folder) for folder in folders):
        raise ValueError(f"{location!r} leads out of the folder of the model")
    if target == path.resolve():
        raise ValueError(f"{location!r} is the model itself")
    if not target.is_file():
        raise FileNotFoundError(f"{location!r} is not beside the model")
    return target


def _bytes_of(name: str, info: ExternalDataInfo, file: Path) -> bytes:
    offset, size = info.offset or 0, file.stat().st_size
    length = size - offset if info.length is None else info.length
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"{file.name} has {size} bytes; tensor {name!r} is at {offset} to {offset + length}")
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read(length)
