"""Which kind of file an exported model is, and which runtimes open it. A new kind is a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..files import SourceError, open_regular
from .engine_header import is_engine

_START = 1024


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
    """A zip archive, a pickle, or safetensors: the length of a JSON header, then the header."""
    return start.startswith((b"PK\x03\x04", b"\x80")) or start[7:9] == b"\0{"


ENGINE = ArtifactKind("engine", (".engine", ".plan", ".trt"), ("tensorrt",), is_engine)
OPENVINO = ArtifactKind("openvino", (".xml",), ("openvino",), _is_ir)
ONNX = ArtifactKind("onnx", (".onnx",), ("onnxruntime", "onnxruntime-cuda", "openvino"), _is_onnx)
CHECKPOINT = ArtifactKind("checkpoint", (".pth", ".pt", ".safetensors"), ("torch", "torch-compile"), _is_checkpoint)
KINDS = (ENGINE, OPENVINO, CHECKPOINT, ONNX)


def artifact_kind(path: Path) -> ArtifactKind:
    """The kind of the file at `path`, by its first bytes; by its suffix where they do not tell.

    What is none of KINDS is taken for a checkpoint. A file that cannot be read is judged by its name.
    """
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except SourceError:
        start = b""
    told = (kind for kind in KINDS if kind.begins(start))
    named = (kind for kind in KINDS if path.suffix in kind.suffixes)
    return next(told, None) or next(named, CHECKPOINT)
