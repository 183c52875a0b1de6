"""Estimate the cycles of the AVX-512 kernels for 16 elements, with llvm-mca.

    python -m benchmarks.avx512                    prints Markdown; needs llvm-mca (Debian: llvm-19)
    python -m benchmarks.avx512 --plugins FOLDER   of the plugins/ of another checkout

It compiles the kernels as the library does, takes the inner loop of each, and asks a model of the processor how
many cycles the loop takes. It is a static estimate, not a time: every load is taken to hit the first cache, and
every element to stay in the loop. What a kernel gathers for another comes on top.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from plugins.tests import ort_building as building

PROCESSORS = ("icelake-server", "sapphirerapids")  # the second from LLVM 16 on
KERNELS = {
    "pw, unit": (0, 1),
    "pw, gate": (0, 0),
    "acc, unit": (1, 1),
    "acc, gate": (1, 0),
}  # Mode, Kind of table.h
# table_row<Avx512, degree of float32's table, Mode, Kind, float ...
FUNCTION = r"^(_Z\w*9table_rowINS0_6Avx512ELi7ELNS_4ModeE{}ELNS_4KindE{}Ef\w*):$"
STORE = re.compile(r"\tvmovups\t%zmm\d+, -?\d*\(")
TIMES = 200


def model_program() -> str | None:
    """The newest llvm-mca here."""
    names = [f"llvm-mca-{version}" for version in range(30, 15, -1)]
    return next(filter(None, map(shutil.which, (*names, "llvm-mca"))), None)


def assembly(plugins: Path) -> list[str]:
    """The lines of table_avx512.cc, compiled with the library's flags."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "kernels.s")
        source = plugins / "onnxruntime/table_avx512.cc"
        flags = ("-std=c++17", *building.kernel_flags(), f"-I{plugins / 'include'}", f"-I{source.parent}", "-S")
        subprocess.run([building.compiler() or "c++", *flags, source, "-o", output], check=True)
        return output.read_text().splitlines()


def inner_loop(lines: list[str], mode: int, kind: int) -> tuple[list[str], int]:
    """The kernel's loop that stores the most, and how many registers of 16 results it stores a turn."""
    pattern = re.compile(FUNCTION.format(mode, kind))
    start = next(i for i, line in enumerate(lines) if pattern.match(line))
    end = next(i for i in range(start, len(lines)) if lines[i].startswith("\t.cfi_endproc"))
    labels = {lines[i][:-1]: i for i in range(start, end) if re.match(r"\.L\w+:$", lines[i])}
    found: list[tuple[int, int, list[str]]] = []
    for i in range(start, end):
        jump = re.match(r"\tj[a-z]+\t(\.L\w+)$", lines[i])
        if jump and labels.get(jump[1], end) < i:
            body = [line for line in lines[labels[jump[1]] : i + 1] if not line.startswith("\t.")]
            if not any(re.match(r"\t(call|jmp)\t", line) for line in body):  # the way to another kernel
                found.append((sum(bool(STORE.match(line)) for line in body), -len(body), body))
    stores, _, body = max(found)
    return body, stores


def estimate_cycles(program: str, processor: str, body: list[str], registers: int) -> float:
    """Cycles for 16 elements, the loop being repeated."""
    command = (program, "-mtriple=x86_64", f"-mcpu={processor}", f"-iterations={TIMES}")
    text = "\n".join(body) + "\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found = re.search(r"^Total Cycles:\s+(\d+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return int(found[1]) / TIMES / registers


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plugins", type=Path, default=building.ROOT / "plugins")
    options = parser.parse_args()
    program = model_program()
    if program is None or building.compiler() is None:
        print("A C++ compiler or llvm-mca is missing: apt install g++ llvm-19", file=sys.stderr)
        return 3
    lines = assembly(options.plugins)
    print(f"| kernel | {' | '.join(PROCESSORS)} |\n|{' --- |' * (len(PROCESSORS) + 1)}")
    for name, (mode, kind) in KERNELS.items():
        body, registers = inner_loop(lines, mode, kind)
        cycles = (f"{estimate_cycles(program, one, body, registers):.1f}" for one in PROCESSORS)
        print(f"| {name} | {' | '.join(cycles)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
