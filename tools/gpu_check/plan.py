"""The kernels that a plan carries (`--activation aot`), without TensorRT: each text compiled by the driver,
launched as the plan says, and held against the formula in float64."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from apa_deploy.maths import GATE, aglu_float64, apa_float64
from apa_deploy.runtimes.device import Device

from .outcome import Outcome, State

BLOCK, PACK_BYTES, PACKS_A_THREAD = 256, 16, 2  # as exporters' on_target/aot.py launches them
COUNTS = (1, 1000, (1 << 20) + 3)  # below a pack, a block, and more than one block with a rest
PARAMETERS = ((0.0, 1.0), (0.1, -0.7), (0.5, 1.1), (3.0, 0.6))  # two of each regime
ELEMENTS: dict[str, Any] = {"float": np.float32, "half": np.float16, "bfloat16": np.uint16}  # the last: its bits
# Of max(1, |y|): float32 as plugins/tests/trt_reference.h, the half types 0.55 units in their last place.
LIMITS = {"float": 1.5e-6, "half": 0.55 * 2.0**-10, "bfloat16": 0.55 * 2.0**-7}


def plan_kernels() -> list[dict[str, Any]]:
    """Every kernel with each of its parameters: name, kind, element, lambda, kappa, text.

    Raises:
        LibraryError: the kernels were not built.
    """
    from apa_exporters.tensorrt.on_target.aot import NAMES, kernel_text

    from apa_deploy.graph.kernels import fold_kernel
    from apa_deploy.native import aot_kernels

    text, found = aot_kernels().read_text(encoding="utf-8"), []
    for kind in NAMES:
        for lambda_, kappa in PARAMETERS:
            kernel = fold_kernel(kind, lambda_, kappa)
            for element in ELEMENTS:
                name = f"apa_{NAMES[kind]}_{kernel.regime}_{element}"
                ptx = kernel_text(text, name, kernel.coefficients)
                found.append(
                    {"name": name, "kind": kind, "element": element, "lambda": lambda_, "kappa": kappa, "text": ptx}
                )
    return found


def check_plan_kernels(prepared: Path | None, keep: Callable[[Outcome], None]) -> Outcome:
    """Each kernel a row. `prepared`: a file of `plan_kernels`, where onnx, which makes them, is not here.

    Raises:
        MissingError: cuda-python or a GPU is missing.
    """
    device = Device()
    outcome = Outcome("plan", State.PASSED)
    for kernel in json.loads(prepared.read_text(encoding="utf-8")) if prepared else plan_kernels():
        outcome.rows.append(_check_kernel(device, kernel))
        if not outcome.rows[-1]["good"]:
            outcome.state = State.FAILED
            outcome.reason = "; ".join(filter(None, [outcome.reason, kernel["name"]]))
        keep(outcome)
    device.close()
    return outcome


def _check_kernel(device: Device, kernel: dict[str, Any]) -> dict[str, Any]:
    from cuda.bindings import driver

    module = device.call(driver.cuModuleLoadData, kernel["text"].encode() + b"\0")
    function = device.call(driver.cuModuleGetFunction, module, kernel["name"].encode())
    worst = max(_error(device, function, kernel, count) for count in COUNTS)
    device.call(driver.cuModuleUnload, module)
    limit = LIMITS[kernel["element"]]
    named = {name: kernel[name] for name in ("name", "lambda", "kappa")}
    return {**named, "worst": worst, "limit": limit, "good": worst <= limit}


def _error(device: Device, function: Any, kernel: dict[str, Any], count: int) -> float:
    """The largest, of max(1, |exact|); infinite where what lies behind the tensor was written."""
    from cuda.bindings import driver

    rng, kind = np.random.default_rng(count), ELEMENTS[kernel["element"]]
    numbers = rng.uniform(-12, 12, count).astype(np.float32)
    is_bits, guard = kernel["element"] == "bfloat16", 16
    x = (numbers.view(np.uint32) >> 16).astype(kind) if is_bits else numbers.astype(kind)
    y = np.full(count + guard, 7, kind)
    source, target, stream = device.allocate(x.nbytes), device.allocate(y.nbytes), device.stream()
    device.upload(source, x, stream)
    device.upload(target, y, stream)
    grid = count // (BLOCK * PACKS_A_THREAD * (PACK_BYTES // x.itemsize)) + 1
    given = ((source, count, target), (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p))
    device.call(driver.cuLaunchKernel, function, grid, 1, 1, BLOCK, 1, 1, 0, stream, given, 0)
    device.download(y, target, stream)
    device.synchronize(stream)
    for pointer in (source, target):
        device.free(pointer)
    device.free_stream(stream)
    formula = apa_float64 if kernel["kind"] == GATE else aglu_float64
    z, got = ((v.astype(np.uint32) << 16).view(np.float32) if is_bits else v for v in (x, y[:count]))
    exact = formula(z.astype(np.float64), kernel["lambda"], kernel["kappa"])
    if (y[count:] != 7).any():
        return float("inf")
    return float(np.max(np.abs(got.astype(np.float64) - exact) / np.maximum(1, np.abs(exact))))
