"""Print the folder that holds NvInferRuntime.h.

Looked for in $TENSORRT_ROOT, then the system's include folders, then fetched: the pinned wheel kernel-lens,
which ships the public headers of TensorRT 10.14. Only its headers are unpacked. A library built with them
loads into other releases as well (docs/tensorrt-plugin.md).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import common

REQUIREMENT = "kernel-lens==2.0.1"
SHA256 = "07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0"
INSIDE = "kernel_lens/include/tensorrt"
HEADER = "NvInferRuntime.h"
PLUGIN_HEADER = "NvInferPluginBase.h"  # since 10.7: an older set lacks what the plugin needs
DO = "Set TENSORRT_ROOT to an unpacked TensorRT release >= 10.7 and build again."


def find() -> Path:
    """The folder of the headers: given, installed or fetched."""
    present = next(_present(), None)
    if present:
        return present
    if root := os.environ.get("TENSORRT_ROOT"):
        raise common.FetchError(f"no {HEADER} >= 10.7 under TENSORRT_ROOT={root}. {DO}")
    try:
        return common.kept(REQUIREMENT.replace("==", "-"), _fetch) / INSIDE
    except common.FetchError as error:
        raise common.FetchError(f"{error}. {DO}") from error


def _present() -> Iterator[Path]:
    root = os.environ.get("TENSORRT_ROOT")
    if root:
        bases = [Path(root) / below for below in ("include", "", "include/tensorrt")]
    else:
        multiarch = f"{platform.machine()}-linux-gnu"
        bases = [Path("/usr/include") / below for below in (multiarch, "", "tensorrt")]
    return (base for base in bases if (base / HEADER).is_file() and (base / PLUGIN_HEADER).is_file())


def _fetch(folder: Path) -> None:
    """Fill `folder` with the headers of the wheel, and nothing else of it."""
    archive = common.wheel(REQUIREMENT, SHA256, folder)
    common.unpacked(archive, f"{INSIDE}/", folder)
    archive.unlink()


if __name__ == "__main__":
    sys.exit(common.report(find))
