"""Hold the float32 kernels against float64 over all 2^32 inputs, and print a Markdown table.

    python -m benchmarks.float32_exhaustive                       six pairs, every float: minutes
    python -m benchmarks.float32_exhaustive --stride 1009         every exponent, 8,300 numbers each: seconds
    python -m benchmarks.float32_exhaustive --pair 0.3 1.1        one pair of your own
    python -m benchmarks.float32_exhaustive --kernel pw           a table kernel, of the widest vectors here

Exit code 1 where a bound of plugins/include/apa/math.h does not hold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from plugins.tests import ort_building as building

PAIRS = [(0.0, 1.0), (1e-8, 1.1), (0.001, 0.3), (0.01, -0.7), (0.5, 1.2), (2.0, 1.0)]
COLUMNS = ("absolute", "ulp_p0.1", "ulp_p1e-3", "ulp_p1e-7", "ulp", "scaled")
ABSOLUTE = 1.2e-7  # of the gate, for every lambda
PW = {"gate": 2.0**-23, "unit": 2.0**-22}  # the bound of that kernel, relative to max(1, |result|)
HEADER = (
    "| lambda | kappa | | absolute | ulp where APA > 0.1 | > 1e-3 | > 1e-7 | anywhere | b |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def sweep_program(folder: Path, instructions: str, *flags: str) -> Path:
    """ort_float32_sweep.cc, with the kernels compiled for one of `building.instruction_sets()`, or with `flags`."""
    building.kernel_objects(folder, instructions, *flags)
    building.compiled(
        folder / "truth.o", "-O3", "-ffast-math", "-march=native", "-c", building.TESTS / "ort_truth.cc"
    )
    return link_library("ort_float32_sweep.cc", folder / "sweep")


def link_library(source: str, program: Path, *flags: str) -> Path:
    """A program of plugins/tests beside the objects that `sweep_program` made."""
    folder = program.parent
    arguments = (building.TESTS / source, folder / "truth.o", *building.with_kernels(folder), "-lm")
    return building.compiled(program, *(flags or ("-O3", "-march=native")), *arguments)


def measure_pair(
    program: Path,
    lambda_: float,
    kappa: float,
    stride: int,
    threads: int = 1,
    kernel: str = "exact",
    isa: str = "none",
) -> dict[str, Any]:
    """The worst errors over the inputs 0, stride, 2*stride, ...; parameters are rounded as in a node."""
    numbers = (repr(float(np.float32(value))) for value in (lambda_, kappa))
    command = [str(program), *numbers, str(stride), str(threads), kernel, isa]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def bound_of(lambda_: float, fused: bool) -> float:
    """`b` of the contract above `apa::gate`: the error is at most b * (2 + |log2 APA|) ulp."""
    if lambda_ < 0.25:
        return (2.0 if lambda_ < 2**-100 else 3.0) if fused else 5.0
    return 2.5 if fused else 3.0


def find_broken(found: dict[str, Any], fused: bool) -> Iterator[str]:
    """What of the contract of the kernel that ran does not hold."""
    for kind in ("gate", "unit"):
        is_pw = found[kind]["kernel"] == "pw"
        absolute = PW[kind] if is_pw else ABSOLUTE if kind == "gate" else math.inf
        if found[kind]["absolute"] > absolute:
            yield f"{kind}: absolute error {found[kind]['absolute']}, bound {absolute}"
        if not is_pw and found[kind]["scaled"] > (b := bound_of(found["lambda"], fused)):
            yield f"{kind}: b {found[kind]['scaled']} at {found[kind]['at']}, bound {b}"
        if found[kind]["wrong_specials"]:
            yield f"{kind}: {found[kind]['wrong_specials']} wrong results for infinity, NaN or overflow"


def rows(found: dict[str, Any]) -> Iterator[str]:
    """The two lines of a table: gate and unit."""
    for kind, name in (("gate", "APA"), ("unit", "AGLU")):
        values = " | ".join(f"{found[kind][column]:.3g}" for column in COLUMNS)
        yield f"| {found['lambda']:.3g} | {found['kappa']:.3g} | {name} | {values} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pair", nargs=2, type=float, action="append", metavar=("LAMBDA", "KAPPA"))
    parser.add_argument("--stride", type=int, default=1, help="an odd number; 1: every float (default)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kernel", choices=("exact", "acc", "pw"), default="exact")
    options = parser.parse_args()
    instructions = building.instruction_sets()[-1]
    vectors = {"x86-64-v4": "avx512", "x86-64-v3": "avx2", "": "neon"}.get(instructions)
    if options.kernel != "exact" and vectors is None:
        parser.error(f"--kernel {options.kernel}: this processor has no AVX2; wanted one that has")
    kernel = (options.kernel, "none" if options.kernel == "exact" else vectors)
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        program = sweep_program(Path(folder), instructions)
        print(HEADER)
        for lambda_, kappa in options.pair or PAIRS:
            found = measure_pair(program, lambda_, kappa, options.stride, options.threads, *kernel)
            for kind in ("gate", "unit"):
                if found[kind]["kernel"] != options.kernel:
                    faults.append(f"lambda {lambda_}, kappa {kappa}, {kind}: {found[kind]['kernel']} ran")
            print("\n".join(rows(found)), flush=True)
            faults += find_broken(found, fused=instructions != "x86-64")
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
