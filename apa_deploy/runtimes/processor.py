"""What this processor's instructions mean for 8-bit arithmetic."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

# Where an exported file says whether its weights have 7 bits.
REDUCED_KEY = "apa.reduced_range"
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "avx512vnni", "avxvnni", "amx_int8")


@cache
def vector_instructions() -> str:
    """ "vnni", "avx2" or "x86" of an x86-64 processor, else the machine's name."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return platform.machine()
    flags = _flags()
    if any(flag in flags for flag in _DOT_PRODUCTS):
        return "vnni"
    return "avx2" if "avx2" in flags else "x86"


def saturates() -> bool:
    """Whether ONNX Runtime's u8 x s8 kernels add two products in 16 bits here, and saturate: x86 without VNNI.

    With weights of 7 bits they do not: 2 * 255 * 63 < 2^15.
    """
    return vector_instructions() in ("avx2", "x86")


def _flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.split())
