"""Which release of NVIDIA's Triton image holds which TensorRT: an engine is tied to the one that built it."""

from __future__ import annotations

from pathlib import Path

RELEASES = Path(__file__).with_name("triton_releases.txt")


def releases_with(tensorrt: str) -> list[str]:
    """The releases, oldest first, whose TensorRT runs a plan of this version ("10.13.3.9"); none if unknown."""
    wanted = ".".join(tensorrt.split(".")[:3])
    lines = (line.split() for line in RELEASES.read_text(encoding="utf-8").splitlines())
    return next((releases for version, *releases in lines if version == wanted), [])


def advise_release(tensorrt: str) -> str:
    """Which image to use, in words."""
    found = releases_with(tensorrt)
    if found:
        return f"the image tritonserver:{found[-1]}-py3 (of {', '.join(found)})"
    return f"the image whose TensorRT is {tensorrt} (NVIDIA's support matrix names it)"
