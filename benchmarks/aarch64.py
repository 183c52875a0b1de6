"""Count the instructions an element of the kernels for aarch64, in QEMU.

    python -m benchmarks.aarch64            prints Markdown; needs g++-aarch64-linux-gnu and qemu-user

A count compares kernels where there is no such processor to time them on. It is not a time: loads count as much as
additions, and what waits for what is not seen.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from plugins.tests import ort_building as building

KERNELS = ("exact", "acc", "pw")
LAMBDAS = (0.0, 0.1, 0.5, 1.0)
ELEMENTS = 4096  # of aarch64.cc
LINE_EACH = {"QEMU_SINGLESTEP": "1", "QEMU_ONE_INSN_PER_TB": "1"}  # up to QEMU 8.0, and from 8.1 on


def counting_program(folder: Path) -> Path:
    """aarch64.cc with the kernels, in `folder`; CXX has to be the cross compiler."""
    flags = [*building.kernel_flags(), "-static"]
    kernels = building.kernel_objects(folder, "", *flags)
    return building.compiled(folder / "aarch64", *flags, Path(__file__).with_suffix(".cc"), *kernels)


def count_instructions(program: Path, kernel: str, lambda_: float) -> float:
    """Of one element: what a second pass over the same elements adds."""

    def count(passes: int) -> int:
        with tempfile.NamedTemporaryFile("rb") as log:
            command = (building.EMULATOR, "-d", "exec,nochain", "-D", log.name, program, kernel, lambda_, passes)
            subprocess.run([str(part) for part in command], check=True, env={**os.environ, **LINE_EACH})
            return sum(1 for _ in log)

    return (count(2) - count(1)) / ELEMENTS


def main() -> int:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    if not (building.CROSS and building.EMULATOR):
        print("The cross compiler or QEMU is missing: apt install g++-aarch64-linux-gnu qemu-user", file=sys.stderr)
        return 3
    os.environ["CXX"] = building.CROSS
    print(f"| lambda | {' | '.join(KERNELS)} |\n|{' --- |' * (len(KERNELS) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        program = counting_program(Path(folder))
        for lambda_ in LAMBDAS:
            counts = (f"{count_instructions(program, kernel, lambda_):.1f}" for kernel in KERNELS)
            print(f"| {lambda_:g} | {' | '.join(counts)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
