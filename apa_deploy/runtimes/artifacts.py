"""Which kind of file an exported model is, and which runtimes open it. A new kind is a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..doctor.engine_header import is_engine

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


def _untold(start: bytes) -> bool:
    return False


ENGINE = ArtifactKind("engine", (".engine", ".plan", ".trt"), ("tensorrt",), is_engine)
OPENVINO = ArtifactKind("openvino", (".xml",), ("openvino",), _is_ir)
ONNX = ArtifactKind("onnx", (".onnx",), ("onnxruntime", "onnxruntime-cuda", "openvino"), _untold)
CHECKPOINT = ArtifactKind(
    "checkpoint", (".pth", ".pt", ".safetensors"), ("torch", "torch-compile"), lambda _: False
)
KINDS = (ENGINE, OPENVINO, ONNX)


def artifact_kind(path: Path) -> ArtifactKind:
    """The kind of the file at `path`, by its first bytes; by its suffix where they do not tell.

    What is none of KINDS is taken for a checkpoint. A file that cannot be read is judged by its name.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:
        start = b""
    told = (kind for kind in KINDS if kind.begins(start))
    named = (kind for kind in KINDS if path.suffix in kind.suffixes)
    return next(told, None) or next(named, CHECKPOINT)
