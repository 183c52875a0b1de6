"""Which kind of file a file is, by its content: names lie."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from ..errors import InputError
from ..files import SourceError, open_regular
from ..runtimes.artifacts import OPENVINO
from ..runtimes.engine_header import is_engine, metadata_before

_START = (1 << 20) + 1024  # all that may stand before an engine, and its header
_POINTER = b"version https://git-lfs"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


class Kind(StrEnum):
    """The kinds of file whose needs are known. ONNX: whatever is none of the others."""

    ENGINE = "engine"
    PREFIXED = "engine behind metadata"
    PASSPORT = "passport"
    OPENVINO = "OpenVINO model"
    ONNX = "ONNX model"


class UnknownFileError(InputError):
    """The file is of no known kind, or damaged. `path`, `saw`."""

    def __init__(self, path: Path, saw: str, do: str) -> None:
        super().__init__(f"{path}: {saw}", "an engine, an ONNX or OpenVINO model, or a passport", do)
        self.path = path


def kind_of(path: Path) -> tuple[Kind, bytes]:
    """The kind of a file, and the first bytes of it.

    Raises:
        UnknownFileError: it is absent, empty, a pointer to a file elsewhere, or a checkpoint.
    """
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except SourceError as error:
        raise UnknownFileError(path, error.reason, error.do) from error
    _refuse(path, start)
    return _kind(start), start


def _kind(start: bytes) -> Kind:
    if is_engine(start):
        return Kind.ENGINE
    if metadata_before(start):
        return Kind.PREFIXED
    if OPENVINO.begins(start):
        return Kind.OPENVINO
    return Kind.PASSPORT if start.lstrip()[:1] == b"{" else Kind.ONNX


def _refuse(path: Path, start: bytes) -> None:
    if not start:
        raise UnknownFileError(path, "an empty file", "Copy or export it again.")
    if start.startswith(_POINTER):
        do = "Fetch the file itself: git lfs pull"
        raise UnknownFileError(path, "a Git LFS pointer, not the file it stands for", do)
    if start.startswith((_ZIP, _PICKLE)):
        do = f"See what it learned with: apa-inspect {path}; export it with: apa-export {path}"
        raise UnknownFileError(path, "a checkpoint or another archive", do)
