"""Compile C++ for the tests, and the library itself where it is not built or not up to date.

Tests skip where `compiler()` is None; whatever else goes wrong fails them, with what was printed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from apa_deploy import native

ROOT = Path(__file__).resolve().parents[2]
TESTS, INCLUDE, ORT = ROOT / "plugins/tests", ROOT / "plugins/include", ROOT / "plugins/onnxruntime"
BUILD = ROOT / "build/ort-tests"
# For aarch64, on another processor.
CROSS, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
NO_CROSS = "" if CROSS and EMULATOR else "needs g++-aarch64-linux-gnu and qemu-user"
NO_COMPILER = "no C++ compiler on this machine: install one (Debian: apt install g++)"
# The kernels and what chooses among them, free of ONNX Runtime.
_TABLES = ("table_fit", "table_avx2", "table_avx512", "table_neon")
KERNELS = [ORT / f"{name}.cc" for name in ("attributes", "layer", "choice", *_TABLES, "exact")]
# Those on 8-bit codes, which need none of the others.
BYTE_KERNELS = [ORT / f"{name}.cc" for name in ("bytes", "bytes_avx2", "bytes_vbmi", "bytes_neon")]
_AVX512 = ("table_avx512", "bytes_vbmi")
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Werror")


def compiler() -> str | None:
    """The C++ compiler, as CMake would choose it."""
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def kernel_flags() -> list[str]:
    """The flags that the library's kernels are built with, read from its CMakeLists.txt."""
    text = (ORT / "CMakeLists.txt").read_text()
    found = re.search(r"set\(APA_KERNEL_FLAGS ([^)]*)\)", text)
    assert found, "APA_KERNEL_FLAGS is no longer set in plugins/onnxruntime/CMakeLists.txt"
    return found[1].split()


def sanitized(kind: str) -> tuple[str, ...]:
    """The flags of every test that looks for "thread" or "address,undefined": their objects are the same."""
    return ("-O1", "-g1", f"-fsanitize={kind}", "-fno-sanitize-recover=all", "-Wno-unused-function")


def compiled(output: Path, *arguments: str | Path) -> Path:
    """Compile to `output`: a program, an object (-c) or a shared library (-shared), as the arguments say.

    What the same command has made of the same text is kept in build/, and serves every test and worker.
    """
    command = [compiler() or "c++", *STRICT, *map(str, arguments)]
    kept = BUILD / "compiled" / _digest(command)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            new = kept.with_suffix(".new")
            done = subprocess.run([*command, "-o", str(new)], capture_output=True, text=True)
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
            new.rename(kept)
    shutil.copy(kept, output)
    return output


def _digest(command: list[str]) -> str:
    """Of a command, the files it names and the headers where it looks; where all these lie does not matter."""
    digest = hashlib.sha256()
    for part in command:
        path = Path(part.removeprefix("-I"))
        headers = sorted(path.rglob("*.h")) if path.is_dir() else []
        for file in [path] if path.is_file() else headers:
            digest.update(file.name.encode() + file.read_bytes())
        if not path.exists():
            digest.update(part.encode())
    if "-march=native" in command:
        digest.update(" ".join(sorted(_processor_flags())).encode())
    return digest.hexdigest()


def _processor_flags() -> set[str]:
    return set(Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split())


def is_newer(built: Path, sources: Iterable[Path]) -> bool:
    """Whether the install, or an earlier run, has made `built` from these sources as they are."""
    return built.is_file() and built.stat().st_mtime > max(source.stat().st_mtime for source in sources)


@cache
def library() -> Path:
    """libapa_ort.so: that of the installed package, or of this checkout, where it is brought up to date.

    Raises:
        LibraryError: it was not built, and there is nothing to build it with.
    """
    cmake = shutil.which("cmake")
    built = native.FOLDER / "libapa_ort.so"
    sources = [ROOT / "CMakeLists.txt", *INCLUDE.rglob("*.h"), *ORT.iterdir()]
    if ROOT not in native.FOLDER.parents or not (cmake and compiler()) or is_newer(built, sources):
        return native.ort_library()
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:  # several test processes share the folder
        fcntl.flock(lock, fcntl.LOCK_EX)
        for step in (["-S", ROOT, "-B", BUILD, "-DAPA_PARTS=onnxruntime"], ["--build", BUILD]):
            done = subprocess.run([cmake, *map(str, step)], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return native.ort_library()


def instruction_sets() -> list[str]:
    """The generations of this processor that the library has code for, oldest first; [""] off x86-64."""
    if os.uname().machine != "x86_64":
        return [""]
    flags = _processor_flags()
    wanted = {
        "x86-64": set(),
        "x86-64-v3": {"avx2", "fma", "bmi2", "f16c"},
        "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    }
    return [name for name, needs in wanted.items() if needs <= flags]


def for_instructions(name: str) -> list[str]:
    """The compiler's flags for one of `instruction_sets()`, as the library's own clones have them."""
    return [f"-march={name}", "-mprefer-vector-width=512"] if name else []


def table_sets() -> list[str]:
    """The instruction sets that the table kernels are written for and this machine runs or emulates."""
    if os.uname().machine == "aarch64":
        return ["neon"]
    return ["avx2", "avx512"] if "x86-64-v3" in instruction_sets() else []


@cache
def emulated() -> bool:
    """Whether AVX-512 is to be emulated, because the processor has AVX2 only."""
    return instruction_sets()[-1] == "x86-64-v3"


def kernel_objects(folder: Path, instructions: str, *flags: str) -> list[str | Path]:
    """KERNELS compiled into `folder`; returns `with_kernels(folder)`."""
    common = flags or (*kernel_flags(), *for_instructions(instructions))
    for source in KERNELS:
        kernel_object(source, folder, *common)
    return with_kernels(folder)


def kernel_object(source: Path, folder: Path, *flags: str) -> None:
    """One of KERNELS, or a copy of it with its neighbours, compiled into `folder`."""
    own = ["-DAPA_CLONES=", f"-I{INCLUDE}", f"-I{source.parent}", "-pthread"]
    if source.stem in _AVX512 and emulated() and "-static" not in flags:  # which is for another processor
        slow = any("sanitize" in flag for flag in flags)  # to compile, if optimised
        own += ["-O0" if slow else "-O1", "-march=x86-64-v3", "-DAPA_NO_TARGET", f"-I{TESTS / 'avx512_emulated'}"]
    compiled(folder / f"{source.stem}.o", *flags, *own, "-c", source)


def with_kernels(folder: Path) -> list[str | Path]:
    """The arguments that compile a program with the objects which `kernel_objects` has made."""
    objects = [folder / f"{source.stem}.o" for source in KERNELS]
    include = [f"-I{INCLUDE}", f"-I{ORT}", f"-I{TESTS}", "-pthread"]
    return [*include, *(["-DAPA_EMULATES_AVX512"] if emulated() else []), *objects]
