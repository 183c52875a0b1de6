"""Which kind of file an exported model is, and which runtimes open it. A new kind is a row here."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..files import SourceError, open_regular
from .engine_header import is_engine
from .providers import SESSIONS

_START = 1024
# What marks a program of torch.export inside its archive, since torch 2.8 and before.
_PROGRAM = ("archive_format", "serialized_exported_program.json")


@dataclass(frozen=True)
class ArtifactKind:
    """`suffixes`: the first is the usual one. `runtimes`: that open it, the usual one first.

    `begins`: whether a file that begins with these bytes is one, whatever it is called.
    """

    name: str
    suffixes: tuple[str, ...]
    runtimes: tuple[str, ...]
    begins: Callable[[bytes], bool]


def _is_ir(start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"<?xml", b"<net")) and b"<net" in start


def _is_onnx(start: bytes) -> bool:
    """Field 1 of a protobuf, a number: the IR version."""
    return start.startswith(b"\x08")


def _is_checkpoint(start: bytes) -> bool:
    return _is_pickle(start) or _is_safetensors(start)


def _is_pickle(start: bytes) -> bool:
    """A zip archive, or a bare pickle."""
    return start.startswith((b"PK\x03\x04", b"\x80"))


def _is_safetensors(start: bytes) -> bool:
    """The length of a JSON header, then the header."""
    return start[7:9] == b"\0{"


ENGINE = ArtifactKind("engine", (".engine", ".plan", ".trt"), ("tensorrt",), is_engine)
OPENVINO = ArtifactKind("openvino", (".xml",), ("openvino",), _is_ir)
ONNX = ArtifactKind("onnx", (".onnx",), (*SESSIONS, "openvino"), _is_onnx)
CHECKPOINT = ArtifactKind("checkpoint", (".pth", ".pt", ".safetensors"), ("torch", "torch-compile"), _is_checkpoint)
KINDS = (ENGINE, OPENVINO, CHECKPOINT, ONNX)


def artifact_kind(path: Path) -> ArtifactKind:
    """The kind of the file at `path`, by its first bytes; by its suffix where they do not tell.

    What is none of KINDS is taken for a checkpoint. A file that cannot be read is judged by its name.
    """
    start = _read_start(path)
    told = (kind for kind in KINDS if kind.begins(start))
    named = (kind for kind in KINDS if path.suffix in kind.suffixes)
    return next(told, None) or next(named, CHECKPOINT)


def is_safetensors(path: Path) -> bool:
    """Whether a checkpoint is read by safetensors: by its header, or its name where it is no pickle."""
    start = _read_start(path)
    return _is_safetensors(start) or (path.suffix == ".safetensors" and not _is_pickle(start))


def is_program(path: Path) -> bool:
    """Whether a file is a program of torch.export: an archive that says so; by its name where it is no archive."""
    named = path.suffix == ".pt2" and path.is_file()
    if not _read_start(path).startswith(b"PK"):
        return named
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] in _PROGRAM for name in archive.namelist())
    except (
        zipfile.BadZipFile,
        ValueError,
        NotImplementedError,
        OSError,
    ):  # its reader says what is wrong
        return named


def _read_start(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(_START)
    except SourceError:
        return b""
