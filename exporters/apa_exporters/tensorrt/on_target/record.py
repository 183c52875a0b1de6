"""Write the engine and its passport: that of the export, completed by what was built and measured here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import quantiles
from typing import Any

from .aot import CUDA, PTX_VERSION
from .build import Attempt, Verdict
from .checksums import digest
from .machine import Gpu, facts
from .recipe import AOT, WITH_PLUGIN
from .trial import SIZES, USUAL

PASSPORT = "passport.json"
FORMAT = "trt"


def write_record(out: Path, verdict: Verdict, gpu: Gpu) -> dict[str, Any]:
    """Both files, complete or not at all; what to tell about them."""
    target = out / verdict.kept.recipe.engine
    parts = [target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.passport.part")]
    try:
        parts[0].write_bytes(verdict.kept.builds[-1].engine)
        passport = _passport(verdict, gpu, _file(parts[0], target.name))
        parts[1].write_text(json.dumps(passport, indent=2) + "\n", encoding="utf-8")
        parts[0].replace(target)
        parts[1].replace(target.with_name(f"{target.name}.passport.json"))
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return {"said": _describe(target, verdict, gpu), "activation": verdict.kept.activation}


def _passport(verdict: Verdict, gpu: Gpu, engine: dict[str, Any]) -> dict[str, Any]:
    passport: dict[str, Any] = json.loads((verdict.kept.home / PASSPORT).read_text(encoding="utf-8"))
    machine = facts(gpu)
    passport |= {"format": FORMAT, "outputs": [engine], "build": _build(verdict, gpu, machine)}
    passport["versions"] |= machine["versions"]
    if passport["parity"]:
        passport["parity"]["outputs"] += verdict.kept.checks
    return passport


def _build(verdict: Verdict, gpu: Gpu, machine: dict[str, Any]) -> dict[str, Any]:
    kept = verdict.kept
    folder, recipe = kept.home, kept.recipe
    plugin = recipe.plugin if kept.activation in WITH_PLUGIN else None
    first = next(iter(recipe.shapes.values()))
    return {
        "builder": f"tensorrt {machine['versions']['tensorrt']}",
        "model": _file(folder / recipe.models[kept.activation]),
        "capabilities": [recipe.hardware_compatible or gpu.capability],
        "batches": [shape[0] for shape in first],
        "seconds": kept.builds[-1].seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "launches": kept.launches,
        "executed": True,
        "note": f"engine executed on {gpu.name}",
        "activation": kept.activation,
        "reason": verdict.reason,
        "candidates": [_candidate(attempt) for attempt in verdict.attempts],
        "types": kept.types,
        "in_precision": kept.in_precision,
        "gpu": {key: machine[key] for key in ("name", "capability", "cuda")},
        "plugin": _file(folder / plugin) if plugin else None,
        "ptx": {"version": PTX_VERSION, "driver": f"CUDA {CUDA} or later"} if kept.activation == AOT else None,
    }


def _candidate(attempt: Attempt) -> dict[str, Any]:
    return {
        "activation": attempt.activation,
        "precision": attempt.recipe.precision,
        "passed": not attempt.refused,
        "refused": attempt.refused,
        "max_rel": {check["name"]: check["max_rel"] for check in attempt.checks},
        "bytes": len(attempt.builds[0].engine) if attempt.builds else 0,
        "seconds": sum(built.seconds for built in attempt.builds),
        "launches": attempt.launches,
        "types": attempt.types,
        "latency_ms": attempt.samples(USUAL),
        "latency_by_size": {size: samples for size in SIZES if (samples := attempt.samples(size))},
    }


def _describe(target: Path, verdict: Verdict, gpu: Gpu) -> list[str]:
    kept = verdict.kept
    lines = [
        f"{target}: {kept.name} ({verdict.reason})",
        f"{sum(kept.launches.values())} kernels, layers write {kept.types}",
    ]
    if kept.in_precision is None:
        lines.append("the inspector shows no layer's type: in which type it computes is unknown")
    for attempt in verdict.attempts:
        if attempt.refused:
            lines.append(f"{attempt.name} not used: {attempt.refused}")
        else:
            samples = attempt.samples(USUAL)
            cuts = quantiles(samples, n=100)
            lines.append(
                f"{attempt.name}: p50 {cuts[49]:.3f} ms, p90 {cuts[89]:.3f}, p99 {cuts[98]:.3f} "
                f"({len(samples)} runs of {len(attempt.builds)} builds on {gpu.name}, no copies)"
            )
    for check in kept.checks:
        lines.append(f"{check['name']}: {check['max_rel']:.1e} from float64, limit {check['limit']:.1e}")
    return lines


def _file(path: Path, name: str = "") -> dict[str, Any]:
    return {"name": name or path.name, "sha256": digest(path), "bytes": path.stat().st_size}


def peak_memory_bytes() -> int:
    """The most main memory that this process had."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) * 1024 if found else 0
