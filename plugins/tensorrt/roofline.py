"""Estimate from the machine code how fast the kernels can be on each GPU: which limit binds first.

    python plugins/tensorrt/roofline.py apa_deploy/lib/libapa_trt.so          the table of docs/tensorrt-plugin.md
    python plugins/tensorrt/roofline.py apa_deploy/lib/libapa_trt.so --json   tools/gpu_check/shares.json

An estimate, not a measurement: instructions of the main loop, counted, against the vendor's figures at boost
clock. It says whether memory or arithmetic binds, and by how much; it knows nothing of latency.
"""

from __future__ import annotations

import json
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
    Gpu("H200", 90, 132, 1.98, 4800, 128),
    Gpu("B200", 100, 148, 1.85, 8000, 128),
    Gpu("RTX 5090", 120, 170, 2.41, 1792, 128),
)
# Of all architectures here, per processor and clock: special functions, instructions issued.
SPECIAL_LANES, ISSUE_LANES = 16, 128
# What a copy reaches of the data sheet's memory figure.
REACHABLE = 0.92
# A per-channel kernel holds both regimes' paths, of which a channel takes one: counted where neighbours agree.
PATHS = {"apply_lanes": 2, "apply_planes": 2, "apply_spans": 2}
# The rows of tools/gpu_check's bandwidth program, by kernel.
_NAMES = {
    "apply_lanes": "per channel, channels last",
    "apply_planes": "per channel, channels first",
}


def limits(kernel: sass.Kernel, gpu: Gpu) -> dict[str, float]:
    """What each resource allows, in elements a nanosecond."""
    loop, size, written = kernel.main_loop(), sass.BYTES[kernel.element], sass.BYTES[kernel.written]
    paths = PATHS.get(kernel.function, 1)
    elements = sass.count(loop, "STG", width=kernel.stored) * sass.PACK // size * paths
    lanes = {
        "special functions": (SPECIAL_LANES, sass.count(loop, "MUFU")),
        "float32": (gpu.float_lanes, sass.count(loop, *sass.FLOAT_OPERATIONS)),
        "issue": (ISSUE_LANES, len(loop)),
    }
    rates = {
        name: gpu.processors * gpu.clock * width * elements / count
        for name, (width, count) in lanes.items()
        if count
    }
    return {"memory": REACHABLE * gpu.memory / (size + written), **rates}


def share(kernel: sass.Kernel, gpu: Gpu) -> float:
    """Of the memory's rate, what arithmetic allows: 1 where memory binds."""
    rates = limits(kernel, gpu)
    return min(1.0, min(rates.values()) / rates["memory"])


def shares(kernels: list[sass.Kernel], gpu: Gpu) -> dict[str, float]:
    """Of each kernel of the unit (the gate does a little less), by name and element."""
    units = [k for k in kernels if k.architecture == gpu.architecture and _is_shown(k)]
    return {
        f"{_name(k)}, {_types(k)}": round(share(k, gpu), 2)
        for k in sorted(units, key=lambda k: (_name(k), _types(k)))
    }


def _is_shown(kernel: sass.Kernel) -> bool:
    """Kernels of the unit that move packs; spans are left to formats that nobody asks for."""
    unit = "(apa::Kind)1" in kernel.name
    return unit and kernel.function in ("apply_scalar", "apply_lanes", "apply_planes")


def _name(kernel: sass.Kernel) -> str:
    if kernel.function != "apply_scalar":
        return _NAMES[kernel.function]
    return "scalar, lambda < 1/4" if "(apa::Regime)0" in kernel.name else "scalar, lambda >= 1/4"


def _types(kernel: sass.Kernel) -> str:
    return kernel.element + (f" to {kernel.written}" if kernel.written != kernel.element else "")


def table(kernels: list[sass.Kernel]) -> list[str]:
    """The Markdown table: a line a GPU, the share of the memory's rate that arithmetic allows each kernel."""
    names = list(shares(kernels, GPUS[-1]))
    rows = []
    for gpu in GPUS:
        found = shares(kernels, gpu)
        rows.append(
            "| " + " | ".join([gpu.name, f"{gpu.memory}", *(f"{found[name]:.0%}" for name in names)]) + " |"
        )
    return ["| GPU | GB/s | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 2), *rows]


if __name__ == "__main__":
    found = sass.kernels_of(Path(sys.argv[1]))
    if sys.argv[2:] == ["--json"]:
        print(json.dumps({gpu.name: shares(found, gpu) for gpu in GPUS}, indent=1))
    else:
        print("\n".join(table(found)))
