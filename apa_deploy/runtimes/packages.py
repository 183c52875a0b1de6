"""Which ONNX Runtime package is installed: two of them overwrite each other's files."""

from __future__ import annotations

from collections.abc import Collection
from importlib import metadata

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


def find_packages() -> tuple[str, ...]:
    """The installed distributions that provide the module `onnxruntime`."""
    return tuple(name for name in _PACKAGES if _is_installed(name))


def conflict(packages: Collection[str]) -> str | None:
    """What to tell a user who has both, or None."""
    if len(packages) < 2:
        return None
    return (
        f"{' and '.join(packages)} are both installed and overwrite each other's files; keep one: "
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
