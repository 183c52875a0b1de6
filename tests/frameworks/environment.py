"""Ultralytics, timm, transformers and torchvision beside the running environment.

    python -m tests.frameworks.environment COMMAND...       # runs COMMAND with them

The packages of requirements.txt come first (`tools/cached_packages.py`); torch and the rest are the running
environment's.

A wheel of torchvision is built for CUDA: its operators for the CPU load only where three libraries of CUDA are.
Beside a CPU build of torch, stand-ins with their names are loaded first: every symbol that torchvision wants of
them and that torch has not. Nothing on a CPU calls one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tools.cached_packages import cached_packages, with_packages

HERE = Path(__file__).parent
LIBRARIES = ("libc10_cuda.so", "libtorch_cuda.so", "libcudart.so.13")
_FIRST = f"""import ctypes
from pathlib import Path

for name in {LIBRARIES}:
    if (library := Path(__file__).with_name(name)).is_file():
        ctypes.CDLL(library)
"""
_OFFLINE = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "HF_HUB_OFFLINE": "1"}


def variables(folder: Path) -> dict[str, str]:
    """Environment variables of a process that has the packages, and neither looks for a network nor installs."""
    return with_packages(folder, **_OFFLINE, YOLO_CONFIG_DIR=str(folder))


def make_environment() -> Path:
    """The folder with the packages."""
    return cached_packages("frameworks", HERE / "requirements.txt", also=version("torch"), finish=_finish)


def _finish(folder: Path) -> None:
    if "+cpu" in version("torch"):
        write_stand_ins(folder)
    check = "import torchvision, ultralytics, timm, transformers; torchvision.ops.nms"
    subprocess.run([sys.executable, "-c", check], env=variables(folder), check=True)


def write_stand_ins(folder: Path) -> None:
    """The three libraries, and a sitecustomize.py that loads them before anything else is."""
    wanted = _symbols("--undefined-only", folder / "torchvision" / "_C.so")
    library = Path(subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__path__[0])"], capture_output=True, text=True, check=True
    ).stdout.strip()) / "lib"  # fmt: skip
    names = ("libc10.so", "libtorch_cpu.so", "libtorch_python.so")
    absent = wanted.difference(*(_symbols("--defined-only", library / name) for name in names))
    absent = {name for name in absent if "cuda" in name.lower()}
    runtime = {name for name in absent if name.lstrip("_").startswith("cuda")}
    for name, symbols in zip(LIBRARIES, (set(), absent - runtime, runtime), strict=True):
        _link(folder / name, sorted(symbols))
    (folder / "sitecustomize.py").write_text(_FIRST)


def _symbols(which: str, library: Path) -> set[str]:
    done = subprocess.run(["nm", "-D", which, library], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}


def _link(library: Path, symbols: list[str]) -> None:
    """A library whose functions answer 0; those of CUDA's runtime have its version."""
    body = "".join(f".globl {name}\n.type {name},@function\n{name}:\n" for name in symbols)
    with tempfile.TemporaryDirectory() as work:
        source, script = Path(work, "stand_in.s"), Path(work, "versions")
        source.write_text(f'.text\n{body}\nxorl %eax, %eax\nret\n.section .note.GNU-stack,"",@progbits\n')
        script.write_text(f"{library.name} {{ global: *; }};\n")
        versions = [f"-Wl,--version-script={script}"] if "cudart" in library.name else []
        compiler = ["cc", "-shared", "-nostdlib", f"-Wl,-soname,{library.name}", *versions]
        subprocess.run([*compiler, "-o", library, source], check=True)


if __name__ == "__main__":
    place = variables(make_environment())
    os.execvpe(sys.argv[1], sys.argv[1:], place)
