"""Samples -> figures and verdicts. Pure functions: tested on recorded samples, without a GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from apa_deploy.measure.turns import SMALLEST, ratio_interval

QUANTILES = (50, 90, 95, 99)
# A kernel reaches of a copy what the roofline allows it (shares.json, by plugins/tensorrt/roofline.py), but for its
# start and end and what no roofline knows, latency. Below this part of it the roofline was wrong.
LEAST_OF_ROOFLINE = 0.85
_SHARES = json.loads(Path(__file__).with_name("shares.json").read_text(encoding="utf-8"))
_ELEMENTS = {"float32": "float", "float16": "half"}
# Where source and target are not twice the L2 cache, a copy is no measure of memory: no verdict there.
CACHES = 2

# nvmlClocksEventReason*, by bit
THROTTLE_REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
_HARMLESS = {"idle", "application clocks", "display clocks"}


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """p50, p90, p95, p99 (linear between samples), least, largest and mean; nothing is clipped.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    found = {f"p{q}": _quantile(ordered, q / 100) for q in QUANTILES}
    return found | {"min": ordered[0], "max": ordered[-1], "mean": sum(ordered) / len(ordered)}


def _quantile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def share_of_copy(kernel_ms: Sequence[float], copy_ms: Sequence[float]) -> float:
    """The kernel's bandwidth as a fraction of the copy's: the median over pairs taken in turns."""
    return median(copy / kernel for kernel, copy in zip(kernel_ms, copy_ms, strict=True))


def least_share(gpu: str, kernel: str, element: str) -> float:
    """The bar of a kernel on a GPU of this name ("NVIDIA H200"): of an unknown one, the lowest of all."""
    key = f"{kernel}, {' '.join(_ELEMENTS.get(word, word) for word in element.split())}"
    words = gpu.replace("-", " ").split()
    models = {next(word for word in name.split() if any(map(str.isdigit, word))): name for name in _SHARES}
    known = [_SHARES[name][key] for model, name in models.items() if model in words]
    return LEAST_OF_ROOFLINE * min(known or [shares[key] for shares in _SHARES.values()])


def bandwidth_row(row: Mapping[str, Any], l2_bytes: int, gpu: str) -> dict[str, Any]:
    """One row of the device program, judged. `good` is None where the tensor fits the cache."""
    size, share = int(row["bytes"]), share_of_copy(row["kernel_ms"], row["copy_ms"])
    fits_cache = 2 * size < CACHES * l2_bytes  # source and target
    return {
        "kernel": row["kernel"],
        "element": row["element"],
        "MiB": round(size / 2**20, 1),
        "GB/s": round(2 * size / median(row["kernel_ms"]) / 1e6, 1),
        "copy GB/s": round(2 * size / median(row["copy_ms"]) / 1e6, 1),
        "of copy": round(share, 3),
        "wanted": round(least := least_share(gpu, row["kernel"], row["element"]), 3),
        "good": None if fits_cache else share >= least,
    }


def throttle_reasons(mask: int) -> list[str]:
    """The names of a bit mask of clock event reasons."""
    return [name for bit, name in THROTTLE_REASONS.items() if mask & bit]


def find_slowdowns(masks: Sequence[int]) -> list[str]:
    """What slowed the clocks during a measurement, each reason once; being idle or set by hand is no slowdown."""
    found = (name for mask in masks for name in throttle_reasons(mask) if name not in _HARMLESS)
    return list(dict.fromkeys(found))


def ratios_to(medians: Mapping[str, float], base: str) -> dict[str, float]:
    """Each median over that of `base`: 1.10 takes a tenth longer."""
    return {name: round(value / medians[base], 4) for name, value in medians.items()}


def verdict(plugin: Sequence[float], decomposed: Sequence[float]) -> str:
    """Which of these two builds is faster, by samples taken in turns. An export compares several builds of each."""
    low, middle, high = ratio_interval(plugin, decomposed)
    medians = f"plugin {median(plugin):.3f} ms, decomposed {median(decomposed):.3f} ms"
    figures = f"{medians}, ratio {middle:.3f} ({low:.3f} to {high:.3f})"
    if high < 1 - SMALLEST:
        return f"plugin: faster beyond noise: {figures}"
    if low > 1 + SMALLEST:
        return f"decomposed: faster beyond noise: {figures}"
    return f"decomposed: the simpler, within noise or {SMALLEST:.0%}: {figures}"
