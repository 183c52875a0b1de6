"""Bounds on what a torch file may make us allocate: nothing in it may be larger than the file itself."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

# Upstream's largest pickles (without tensors) are below 1 MB; mmengine's logs add a few.
_LARGEST_PICKLE = 64 << 20


TRUST = "--trust-pickle runs the code in the file: only for one that you or people you trust made."


class ArchiveError(InputError):
    """A torch file claims sizes that it does not have. `path`."""

    def __init__(
        self, path: Path, saw: str, do: str = "Get the file again.", wanted: str = "a file as torch.save writes it"
    ) -> None:
        super().__init__(f"{path.name}: {saw}", wanted, do)
        self.path = path


_DENSE = "Save value.to_dense() for each such tensor of the state dict."
_REMEDIES = {
    "quantized": "Save the float network's state dict: apa-export makes 8 bits itself (--precision int8).",
    "meta": "It has a shape and no numbers. Load the weights (assign=True) before you save the state dict.",
    "nested": "Save torch.nested.to_padded_tensor(value, 0.0), or its parts.",
}


def check_archive(path: Path) -> frozenset[int]:
    """Sizes of the members of a zip file, each stored without compression; empty where it is no zip file.

    Raises:
        ArchiveError: a member is compressed, members overlap, or the pickle is absurdly large.
    """
    if not is_zip(path):
        if path.stat().st_size > _LARGEST_PICKLE and not _starts_a_pickle(path):
            raise ArchiveError(path, "neither a zip archive nor a pickle")
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise ArchiveError(path, f"a damaged zip archive ({error})") from error
    if any("/code/__torch__" in f"/{member.filename}" for member in members):
        do = f"Save model.state_dict() of the network before it was scripted. {TRUST}"
        raise ArchiveError(path, "a TorchScript archive", do)
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ArchiveError(path, f"member {member.filename!r} is compressed ({member.file_size} bytes)")
        if member.filename.endswith(".pkl") and member.file_size > _LARGEST_PICKLE:
            raise ArchiveError(path, f"a pickle of {member.file_size} bytes")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ArchiveError(path, "members that are larger together than the file")
    return frozenset(member.file_size for member in members)


def is_zip(path: Path) -> bool:
    """Whether the file ends as a zip archive does.

    Raises:
        ArchiveError: it does, but damaged.
    """
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:
        raise ArchiveError(path, f"a damaged zip archive ({error})") from error


def check_storages(path: Path, content: Any, sizes: frozenset[int]) -> None:
    """Refuse tensors that reach beyond what the file stores for them.

    Raises:
        ArchiveError: a tensor has more elements than its storage, or a storage than its member of the archive.
    """
    for tensor in _tensors(content):
        kind = next((kind for kind in ("quantized", "meta", "nested") if getattr(tensor, f"is_{kind}")), "")
        if kind or tensor.layout != torch.strided:
            layout = str(tensor.layout).removeprefix("torch.")
            raise ArchiveError(
                path, f"a {kind or layout} tensor", _REMEDIES.get(kind, _DENSE), "dense tensors with values"
            )
        storage = tensor.untyped_storage().nbytes()
        if sizes and storage not in sizes:
            raise ArchiveError(path, f"a tensor storage of {storage} bytes that the file does not hold")
        if tensor.numel() * tensor.element_size() > storage:
            raise ArchiveError(path, f"a tensor of shape {tuple(tensor.shape)} on {storage} bytes of storage")


def _tensors(content: Any, depth: int = 0) -> Iterator[Tensor]:
    """Tensors at most three levels down: what is used of a checkpoint lies at one or two."""
    if isinstance(content, Tensor):
        yield content
    elif depth < 3 and isinstance(content, Mapping):
        for value in content.values():
            yield from _tensors(value, depth + 1)
    elif depth < 3 and isinstance(content, Sequence) and not isinstance(content, str | bytes):
        for value in content:
            yield from _tensors(value, depth + 1)


def _starts_a_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"
