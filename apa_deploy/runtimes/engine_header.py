"""What the first bytes of a serialised engine tell, and no more.

    bytes   0 ..  3   tag: "ftrt" TensorRT, "vtrt" TensorRT for RTX
    bytes   4 ..  7   serialisation version, little-endian; 0 is the one known
    bytes  16 .. 23   TensorRT for RTX: size of the file in bytes
    bytes  24 .. 27   version of the builder: major, minor, patch, build
    bytes  32 .. 39   TensorRT for RTX: compute capabilities, a bit each

The tag of TensorRT and the place of the version are those that `trtexec --getPlanVersionOnly` reads. What is
said of TensorRT for RTX was seen in engines that its builder 1.7 made for every capability; the tests build
them again. A header does not tell which GPU a TensorRT engine was built on, or which plugins it needs: the
passport does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

HEADER_BYTES = 64
TENSORRT, RTX = "TensorRT", "TensorRT for RTX"
RTX_TAG = b"vtrt"
_PRODUCTS = {b"ftrt": TENSORRT, RTX_TAG: RTX}
_FAMILY = b"trt"  # of every tag of a part of an engine, behind its first letter
_RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
AND_LATER = "8.0 and later"
_AND_LATER_BIT = 1 << len(_RTX_CAPABILITIES)
_MOST_METADATA = 1 << 20


@dataclass(frozen=True)
class EngineHeader:
    """`version`: (major, minor, patch, build), None where the serialisation version is not a known one.

    `bytes`: the size that the header gives; `capabilities`: what the engine was built for, AND_LATER for a
    portable one. Both are None where the header is not known to tell.
    """

    product: str
    serialisation: int
    version: tuple[int, int, int, int] | None
    bytes: int | None = None
    capabilities: tuple[str, ...] | None = None

    @property
    def version_text(self) -> str:
        """Such as "10.14.1.48"; "an unknown version"."""
        return ".".join(map(str, self.version)) if self.version else "an unknown version"


def is_engine(start: bytes) -> bool:
    """Whether a file that begins so is an engine, known or not."""
    return len(start) > len(_FAMILY) and start[1:4] == _FAMILY and start[:1].isalpha()


def read_header(start: bytes) -> EngineHeader | None:
    """The header in the first 64 bytes of an engine; None where they are too few or the tag is not a known one."""
    product = _PRODUCTS.get(start[:4])
    if product is None or len(start) < HEADER_BYTES:
        return None
    serialisation = int.from_bytes(start[4:8], "little")
    if serialisation != 0:
        return EngineHeader(product, serialisation, None)
    major, minor, patch, build = start[24:28]
    version = (major, minor, patch, build)
    if product != RTX:
        return EngineHeader(product, serialisation, version)
    size = int.from_bytes(start[16:24], "little")
    return EngineHeader(
        product, serialisation, version, size, _capabilities(int.from_bytes(start[32:40], "little"))
    )


def _capabilities(bits: int) -> tuple[str, ...]:
    if bits & _AND_LATER_BIT:
        return (AND_LATER,)
    return tuple(name for i, name in enumerate(_RTX_CAPABILITIES) if bits & 1 << i)


def metadata_before(start: bytes) -> tuple[int, dict[str, Any]] | None:
    """The JSON that some exporters write before the engine, and how many bytes stand before the engine.

    They write its length in four little-endian bytes first. None where `start` does not begin so.
    """
    length = int.from_bytes(start[:4], "little")
    if not 0 < length <= min(_MOST_METADATA, len(start) - 4) or not is_engine(start[4 + length : 8 + length]):
        return None
    try:
        metadata = json.loads(start[4 : 4 + length])
    except ValueError:
        return None
    return (4 + length, metadata) if isinstance(metadata, dict) else None
