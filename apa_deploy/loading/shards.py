"""Weights in several files: shards of safetensors with an index, and folders of torch.distributed.checkpoint.

The index and the `.metadata` of a folder are a stranger's data like any weights: the names of files in them may not
lead out of the folder, and the metadata goes through an unpickler that knows a few records and nothing else.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import read_text
from .stand_ins import ALLOWED, Inert

METADATA = ".metadata"
INDEX = ".index.json"
# The metadata of a folder names each tensor and shard; a hundred thousand of them take less.
_LARGEST_METADATA = 64 << 20
_WEIGHTS, _STEMS = (".safetensors", ".bin"), ("model", "pytorch_model", "diffusion_pytorch_model")
_BESIDE = {"training_args.bin", "optimizer.bin", "scheduler.bin"}
_OPTIMIZER = ("optim.", "optimizer.", "optimizers.", "optimizer_states.")


class ShardError(ValueError):
    """A folder of weights, or an index, is not as its framework writes it. The message says what was seen; `do`."""

    def __init__(self, saw: str, do: str = "Copy the folder again, whole.") -> None:
        super().__init__(saw)
        self.do = do


class _Record:
    """A dataclass of torch's metadata: its fields, whatever they are."""

    def __init__(self, *values: object, **fields: object) -> None:
        self.values = values
        self.__dict__.update(fields)

    def __setstate__(self, state: object) -> None:
        fields = state[-1] if isinstance(state, tuple) and isinstance(state[-1], dict) else state
        if isinstance(state, tuple) and fields is not state[-1]:
            self.values = state
        if isinstance(fields, dict):
            self.__dict__.update({key: value for key, value in fields.items() if isinstance(key, str)})


def _size(values: object = ()) -> tuple[int, ...]:
    return tuple(values) if isinstance(values, tuple | list) and all(type(v) is int for v in values) else ()


_PLACE = "torch.distributed.checkpoint"
_RECORDS = {
    *(f"{_PLACE}.metadata.{name}" for name in (
        "Metadata", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata", "MetadataIndex",
        "BytesStorageMetadata", "StorageMeta")),
    f"{_PLACE}.filesystem._StorageInfo",
}  # fmt: skip
_INERT = {
    f"{_PLACE}.metadata._MEM_FORMAT_ENCODING", "torch.serialization._get_layout", f"{_PLACE}.stateful.Stateful",
    "torch.memory_format", "torch.layout",
}  # fmt: skip


class _MetadataReader(pickle._Unpickler):
    """Python's own unpickler, whose memory grows with the file, with a table of names instead of imports."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _RECORDS:
            return _Record
        if full == "torch.Size":
            return _size
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype | torch.layout):
            return getattr(torch, name)
        allowed = {item[1]: item[0] for item in ALLOWED if isinstance(item, tuple)}
        if full in _INERT or allowed.get(full) is Inert:
            return Inert
        if full == "collections.OrderedDict":
            return dict
        raise ShardError(f"its {METADATA} asks for {full}")


def read_folder(folder: Path, read_tensor: Callable[[Path], Any]) -> dict[str, Tensor]:
    """The tensors of a folder of torch.distributed.checkpoint, those of optimizers left out.

    Args:
        read_tensor: reads what torch.save wrote, by rules of safety.

    Raises:
        ShardError: the folder is damaged, or names files outside it.
    """
    metadata = _metadata_of(folder)
    wanted, stored = getattr(metadata, "state_dict_metadata", None), getattr(metadata, "storage_data", None)
    if not isinstance(wanted, dict) or not isinstance(stored, dict):
        raise ShardError(f"its {METADATA} lists no tensors")
    places = {(getattr(i, "fqn", ""), tuple(getattr(i, "offset", None) or ())): info for i, info in stored.items()}
    room = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    state = {}
    for name, entry in wanted.items():
        if hasattr(entry, "chunks") and not str(name).startswith(_OPTIMIZER):
            state[str(name)] = _assemble(str(name), entry, places, folder, room, read_tensor)
    return state


def _metadata_of(folder: Path) -> Any:
    path = folder / METADATA
    if not path.is_file() or path.stat().st_size > _LARGEST_METADATA:
        raise ShardError(f"no {METADATA} of torch.distributed.checkpoint in it")
    try:
        return _MetadataReader(io.BytesIO(path.read_bytes())).load()
    except ShardError:
        raise
    except Exception as error:
        raise ShardError(f"its {METADATA} is damaged ({type(error).__name__})") from error


def _assemble(
    name: str, entry: Any, places: dict[Any, Any], folder: Path, room: int, read_tensor: Callable[[Path], Any]
) -> Tensor:
    size, properties = getattr(entry, "size", ()), getattr(entry, "properties", None)
    fields = (
        getattr(properties, "dtype", None),
        *getattr(properties, "values", ()),
    )  # torch pickles them as a tuple
    element = next((field for field in fields if isinstance(field, torch.dtype)), None)
    if not isinstance(element, torch.dtype) or not isinstance(size, tuple):
        raise ShardError(f"{name} has no size or type")
    if math.prod(size) * element.itemsize > room:
        raise ShardError(f"{name} of shape {size}, larger than all files of the folder")
    whole, filled = torch.zeros(size, dtype=element), 0
    for chunk in entry.chunks:
        offsets, sizes = tuple(chunk.offsets), tuple(chunk.sizes)
        info = places.get((name, offsets)) or places.get((name, ()))
        if info is None:
            raise ShardError(f"a part of {name} is stored nowhere")
        part = _part(info, folder, read_tensor)
        target = whole[tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))]
        if not isinstance(part, Tensor) or part.shape != target.shape:
            raise ShardError(f"a part of {name} has another shape than its {METADATA} says")
        target.copy_(part)
        filled += part.numel()
    if filled < whole.numel():
        raise ShardError(f"{name} lacks parts: the folder of one rank alone?")
    return whole


def _part(info: Any, folder: Path, read_tensor: Callable[[Path], Any]) -> Any:
    """One tensor: a file that torch.save wrote, inside another file."""
    file, offset, length = inside(folder, str(info.relative_path)), int(info.offset), int(info.length)
    if offset < 0 or length <= 0 or offset + length > file.stat().st_size:
        raise ShardError(f"{file.name} is shorter than its {METADATA} says")
    with file.open("rb") as opened, tempfile.NamedTemporaryFile(prefix="apa-", suffix=".pt") as copy:
        opened.seek(offset)
        copy.write(opened.read(length))
        copy.flush()
        return read_tensor(Path(copy.name))


def inside(folder: Path, name: str) -> Path:
    """The file of this name in `folder`.

    Raises:
        ShardError: it is not there, or the name leads out of the folder.
    """
    target = (folder / name).resolve()
    blobs = (
        folder.resolve().parent.parent / "blobs"
    )  # the cache of a model hub links from snapshots/REVISION into it
    leads_out = Path(name).is_absolute() or ".." in Path(name).parts
    if leads_out or not any(target.is_relative_to(root) for root in (folder.resolve(), blobs)):
        do = "List files by their names within the folder."
        raise ShardError(f"the name {name[:80]!r}, which leads out of the folder", do)
    if not target.is_file():
        raise ShardError(f"no file {name[:80]!r} beside it")
    return target


def lone_file(folder: Path) -> Path:
    """The weights in a folder of a model hub that has no index: model.safetensors before pytorch_model.bin.

    Raises:
        ShardError: there are none, or several of which none has such a name.
    """
    found = {
        path.name: path for end in _WEIGHTS for path in sorted(folder.glob(f"*{end}")) if path.name not in _BESIDE
    }
    names = [f"{stem}{end}" for end in _WEIGHTS for stem in _STEMS]
    first = next((name for name in (*names, *found) if name in found and (name in names or len(found) == 1)), None)
    if first is None:
        named = f"{', '.join(list(found)[:4])} and no index of them" if found else "no weights in it"
        do = "Give one of the files." if found else "Give the folder of the weights, or their file."
        raise ShardError(named, do)
    return inside(folder, first)


def files_of_index(path: Path) -> list[Path]:
    """The shards that an index beside them lists, each once.

    Raises:
        ShardError: it is no index, or names files outside its folder.
    """
    try:
        names = json.loads(read_text(path))["weight_map"].values()
        if not all(isinstance(name, str) for name in names):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError("no index of weights (a weight_map of key to file)") from error
    return [inside(path.parent, name) for name in dict.fromkeys(names)]
