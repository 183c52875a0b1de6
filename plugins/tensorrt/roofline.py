"""Estimate from the machine code how fast the kernels can be on each GPU: which limit binds first.

    python plugins/tensorrt/roofline.py apa_deploy/lib/libapa_trt.so

An estimate, not a measurement: instructions of the main loop, counted, against the vendor's figures at boost
clock. It says whether memory or arithmetic binds, and by how much; it knows nothing of latency.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import sass


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet: processors, boost clock (GHz), memory (GB/s), float32 lanes a processor."""

    name: str
    architecture: int
    processors: int
    clock: float
    memory: float
    float_lanes: int


GPUS = (
    Gpu("T4", 75, 40, 1.59, 320, 64),
    Gpu("A100 40 GB", 80, 108, 1.41, 1555, 64),
    Gpu("A10", 86, 72, 1.695, 600, 128),
    Gpu("L4", 89, 58, 2.04, 300, 128),
    Gpu("RTX 4090", 89, 128, 2.52, 1008, 128),
    Gpu("H100 SXM", 90, 132, 1.755, 3350, 128),
    Gpu("B200", 100, 148, 1.85, 8000, 128),
    Gpu("RTX 5090", 120, 170, 2.41, 1792, 128),
)
# Of all architectures here, per processor and clock: special functions, instructions issued, shared loads.
SPECIAL_LANES, ISSUE_LANES, SHARED_LANES = 16, 128, 32
# What a copy reaches of the data sheet's memory figure.
REACHABLE = 0.92
BYTES = {"float": 4, "half": 2, "bfloat16": 2, "int8": 1}


def limits(kernel: sass.Kernel, gpu: Gpu) -> dict[str, float]:
    """What each resource allows, in elements a nanosecond."""
    loop, size = kernel.main_loop(), BYTES[kernel.element]
    elements = sass.count(loop, "STG", width="128") * 16 // size
    lanes = {
        "special functions": (SPECIAL_LANES, sass.count(loop, "MUFU")),
        "float32": (gpu.float_lanes, sass.count(loop, *sass.FLOAT_OPERATIONS)),
        "shared memory": (SHARED_LANES, sass.count(loop, "LDS")),
        "issue": (ISSUE_LANES, len(loop)),
    }
    rates = {
        name: gpu.processors * gpu.clock * width * elements / count
        for name, (width, count) in lanes.items()
        if count
    }
    return {"memory": REACHABLE * gpu.memory / (2 * size), **rates}


def row(kernel: sass.Kernel, gpu: Gpu) -> str:
    """One line of the table."""
    rates = limits(kernel, gpu)
    binding = min(rates, key=rates.__getitem__)
    arithmetic = min(rate for name, rate in rates.items() if name != "memory")
    share = min(1.0, arithmetic / rates["memory"])
    cells = [gpu.name, kernel.element, _regime(kernel), f"{rates['memory']:.0f}", f"{arithmetic:.0f}"]
    return "| " + " | ".join([*cells, binding, f"{share:.0%}"]) + " |"


def _regime(kernel: sass.Kernel) -> str:
    if "Regime" not in kernel.name:
        return "table"
    return "lambda < 1/4" if "(apa::Regime)0" in kernel.name else "lambda >= 1/4"


def _shown(kernel: sass.Kernel) -> bool:
    """The unit with scalar parameters: the gate does a little less, bfloat16 the same as half."""
    scalar = kernel.function == "apply_scalar" and "(apa::Kind)1" in kernel.name
    return kernel.function == "apply_table" or (scalar and kernel.element in ("half", "float"))


def table(kernels: list[sass.Kernel]) -> list[str]:
    """The Markdown table, a line a GPU and kernel."""
    head = "| GPU | type | kernel | memory allows (elements/ns) | arithmetic allows | binds | of memory rate |"
    shown = sorted(filter(_shown, kernels), key=lambda k: (list(BYTES).index(k.element), k.name))
    rows = [row(k, gpu) for gpu in GPUS for k in shown if k.architecture == gpu.architecture]
    return [head, "| --- | --- | --- | --- | --- | --- | --- |", *rows]


if __name__ == "__main__":
    print("\n".join(table(sass.kernels_of(Path(sys.argv[1])))))
