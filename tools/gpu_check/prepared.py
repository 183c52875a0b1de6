"""A folder with all that the check needs on a machine that has a driver and Python, and no network:

    python -m tools.gpu_check.prepared [FOLDER]      default: build/gpu-check

programs/ and libraries/ compiled for every GPU, wheels/ of what the check imports, headers/ of TensorRT, plan.json
with the kernels of plans. tools/gpu_check/offline runs the check from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apa_deploy.errors import InputError
from apa_deploy.files import replace_file
from plugins.fetch import common

from . import building

FOLDER = building.ROOT / "build/gpu-check"
MOST_BYTES = 50 << 20
PYTHON = "3.12"
ARCHITECTURES, PTX = (75, 80, 86, 89, 90, 100, 120), 90  # as plugins/tensorrt/CMakeLists.txt
# What the parts import, and what those import; each group is of one release.
WHEELS = (
    ("numpy",),
    ("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection"),
    ("packaging",),
    ("platformdirs",),
    ("rich", "markdown-it-py", "mdurl", "pygments"),
    ("jinja2", "markupsafe"),
    ("cuda-bindings", "cuda-pathfinder"),
)
_GLIBC = (28, 27, 26, 24, 17, 12, 5)  # of the platform tags that pip is to take
_SOURCES = (
    *(f"plugins/{name}" for name in ("include", "tensorrt", "onnxruntime", "onnxruntime_cuda", "tests")),
    "tools/gpu_check/device",
)


@dataclass(frozen=True)
class Prepared:
    """What lies in such a folder."""

    folder: Path

    def programs(self) -> dict[str, Path]:
        """By name, as `building.programs` makes them."""
        return {path.name: path for path in sorted((self.folder / "programs").iterdir())}

    def library(self, part: str) -> Path:
        """One of `building.LIBRARIES`."""
        return self.folder / "libraries" / building.LIBRARIES[part]

    @property
    def plan(self) -> Path:
        """The kernels of plans, as `plan.plan_kernels` lists them."""
        return self.folder / "plan.json"

    def check(self) -> None:
        """Raise an `InputError` where it is not whole, or of other sources than this checkout's."""
        facts = self.folder / "prepared.json"
        do = "Make it again: python -m tools.gpu_check.prepared"
        if not facts.is_file():
            raise InputError(f"no prepared.json in {self.folder}", "a prepared folder", do)
        if json.loads(facts.read_text(encoding="utf-8"))["sources"] != hash_sources():
            raise InputError(f"{self.folder} was made from other sources", "one of this checkout's", do)


def hash_sources(root: Path = building.ROOT) -> str:
    """SHA-256 over the names and the content of every source that the programs are made of."""
    found = hashlib.sha256()
    for path in sorted(path for below in _SOURCES for path in (root / below).rglob("*.*") if path.is_file()):
        if path.suffix in (".cc", ".cu", ".cuh", ".h", ".txt"):
            found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def prepare(
    target: Path, *, architectures: Sequence[int] = ARCHITECTURES, wheels: Sequence[Sequence[str]] = WHEELS
) -> dict[str, Any]:
    """Fill `target`; what lies there is replaced.

    Raises:
        MissingError: what compiles the programs cannot be had.
        InputError: it would be larger than MOST_BYTES.
        FetchError: a wheel cannot be had.
    """
    from .plan import plan_kernels

    with tempfile.TemporaryDirectory() as scratch, replace_file(target, force=True) as folder:
        (folder / "programs").mkdir(parents=True)
        (folder / "libraries").mkdir()
        objects, built = Path(scratch, "objects"), Path(scratch, "libraries")
        objects.mkdir()
        for name, program in building.programs(objects, architectures, PTX).items():
            shutil.copy(program, folder / "programs" / name)
        for part in building.LIBRARIES:
            shutil.copy(building.library(part, built, architectures, PTX), folder / "libraries")
        shutil.copytree(building.fetch("tensorrt_headers.py"), folder / "headers")
        (folder / "plan.json").write_text(json.dumps(plan_kernels()), encoding="utf-8")
        groups = [[_wheel(name, folder / "wheels").name for name in group] for group in wheels]
        facts = {
            "sources": hash_sources(),
            "python": PYTHON,
            "architectures": list(architectures),
            "wheels": groups,
        }
        (folder / "prepared.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > MOST_BYTES:
            raise InputError(f"{size >> 20} MiB", f"at most {MOST_BYTES >> 20} MiB", "Carry fewer wheels.")
    return facts | {"bytes": size}


def _wheel(name: str, into: Path) -> Path:
    """One wheel for PYTHON on x86-64, by the machine's own pip."""
    into.mkdir(exist_ok=True)
    tags = [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC] + ["manylinux2014_x86_64"]
    options = ["--python-version", PYTHON, "--implementation", "cp"]
    for tag in tags:
        options += ["--platform", tag]
    with tempfile.TemporaryDirectory() as scratch:
        found: Path = common.wheel(name, None, Path(scratch), *options)
        return Path(shutil.copy(found, into))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    from apa_deploy.cli.common import run_verb, verb_parser

    parser = verb_parser("gpu_check.prepared", __doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, metavar="FOLDER")
    return run_verb(parser, _prepare, argv)


def _prepare(options: argparse.Namespace) -> int:
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    facts = prepare(options.folder)
    print(json.dumps(facts) if options.json else f"{options.folder}: {facts['bytes'] / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
