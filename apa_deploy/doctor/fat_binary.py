"""Which GPUs a CUDA library holds code for: read from its fat binary, without a CUDA toolkit.

A fat binary is a header and entries behind one another: kind (1: PTX, 2: machine code), header size, payload
size, and at byte 28 the compute capability without its point. The tests compare it with cuobjdump.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

_MAGIC = struct.pack("<I", 0xBA55ED50)
_HEADER, _ENTRY = struct.Struct("<IHHQ"), struct.Struct("<HHIQ12xI")
_PTX, _CODE = 1, 2
_LINK_STUB = (
    4096  # nvcc's link step adds a fat binary without kernels, of its default capability: smaller than this
)
_RELEASE = re.compile(rb"Cuda compilation tools, release (\d+)\.(\d+)")


@dataclass(frozen=True)
class GpuCode:
    """`machine` and `ptx`: compute capabilities as integers (89 is 8.9); `cuda`: the compiler's release."""

    machine: frozenset[int]
    ptx: frozenset[int]
    cuda: tuple[int, int] | None

    def runs_on(self, capability: str) -> bool:
        """Whether a GPU of this capability ("8.9") finds code: its own major's, no newer, or older PTX."""
        wanted = int(capability.replace(".", ""))
        same = any(have // 10 == wanted // 10 and have <= wanted for have in self.machine)
        return same or any(have <= wanted for have in self.ptx)


def gpu_code(library: Path) -> GpuCode:
    """What the fat binaries in `library` hold; nothing where it has none."""
    content = library.read_bytes()
    found: dict[int, set[int]] = {_PTX: set(), _CODE: set()}
    at = content.find(_MAGIC)
    while 0 <= at <= len(content) - _HEADER.size:
        _read_entries(content, at, found)
        at = content.find(_MAGIC, at + len(_MAGIC))
    release = _RELEASE.search(content)
    cuda = (int(release[1]), int(release[2])) if release else None
    return GpuCode(frozenset(found[_CODE]), frozenset(found[_PTX]), cuda)


def _read_entries(content: bytes, start: int, found: dict[int, set[int]]) -> None:
    _, _, header, size = _HEADER.unpack_from(content, start)
    at, end = start + header, min(start + header + size, len(content))
    if size < _LINK_STUB:
        return
    while at + _ENTRY.size <= end:
        kind, _, skip, payload, capability = _ENTRY.unpack_from(content, at)
        if kind not in found:
            return
        found[kind].add(capability)
        at += skip + payload
