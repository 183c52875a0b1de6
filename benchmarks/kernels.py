"""Time the CPU kernels: beside memcpy, and the operator beside ONNX Runtime's QuickGelu.

    python -m benchmarks.kernels                prints Markdown; --json prints the raw samples
    python -m benchmarks.kernels --by-lambda    the kernels alone, lambda by lambda, in processor time

Each configuration of the operators runs in a process of its own, and the processes take turns: two sessions in
one process would share a thread pool's attention. Read ratios: they are medians over rounds, of medians of runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

import apa_deploy
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters
from apa_deploy.runtimes.ort_session import open_session, session_options
from plugins.tests import ort_building as building

LAMBDA, KAPPA = 0.5, 1.1
THREADS = 2
SHAPES = [(1, 256, 56, 56), (8, 256, 56, 56)]
MEBIBYTES = (1 / 16, 8, 128)
LAMBDAS = (0.0, 0.01, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 1.5)
ELEMENTS = 200_000  # for each of LAMBDAS: a map of ResNet-50's first stage, 64 channels of 56x56
OPERATORS = ("AGLU", "QuickGelu")


def one_node(operator: str, path: Path, shape: tuple[int, ...]) -> None:
    """x -> AGLU or QuickGelu -> y, as a file."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    quick_gelu = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft", alpha=KAPPA)
    aglu = make_node("AGLU", "x", "y", Parameters((LAMBDA,), (KAPPA,)), "act")
    graph = helper.make_graph([aglu if operator == "AGLU" else quick_gelu], "g", values[:1], values[1:])
    domains = [
        helper.make_opsetid(domain, version) for domain, version in (("", 18), ("com.apa", 1), ("com.microsoft", 1))
    ]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)


def run_operator(operator: str, shape: tuple[int, ...], seconds: float) -> list[float]:
    """Milliseconds of each run, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        one_node(operator, path := Path(folder) / "model.onnx", shape)
        session = open_session(path, library=apa_deploy.ort_library(), options=session_options(THREADS))
    x = ort.OrtValue.ortvalue_from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32))
    times: list[float] = []
    end = time.perf_counter() + 1.25 * seconds
    while (start := time.perf_counter()) < end:
        session.run_with_iobinding(binding)
        times.append((time.perf_counter() - start) * 1e3)
    return times[len(times) // 5 :]  # what comes before warms up


def operators(rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Shape -> operator -> the median of each round, in milliseconds."""
    found: dict[str, dict[str, list[float]]] = {str(shape): {name: [] for name in OPERATORS} for shape in SHAPES}
    for _ in range(rounds):
        for shape in SHAPES:
            for name in OPERATORS:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.kernels",
                    "--operator",
                    name,
                    json.dumps(shape),
                    str(seconds),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=building.ROOT)
                found[str(shape)][name].append(median(json.loads(done.stdout)))
    return found


def timing_program(folder: Path) -> Path:
    """kernels.cc with the kernels, in `folder`."""
    objects = building.kernel_objects(folder, building.instruction_sets()[-1])
    source = Path(__file__).with_name("kernels.cc")
    timed = [argument for argument in objects if argument != "-DAPA_EMULATES_AVX512"]  # emulation is not
    return building.compiled(folder / "kernels", "-O2", source, *timed)


def time_kernels(
    program: Path, lambda_: float, size: float, threads: int, rounds: int, clock: str
) -> dict[str, Any]:
    """Kernel -> nanoseconds an element, one a round, over `size` MiB; and the set-up of a layer."""
    command = [str(part) for part in (program, lambda_, KAPPA, size, threads, rounds, clock)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def kernels(rounds: int) -> dict[str, dict[str, Any]]:
    """Size and threads -> what `time_kernels` finds."""
    with tempfile.TemporaryDirectory() as folder:
        program = timing_program(Path(folder))
        return {
            f"{size:g} MiB, {threads} thread{'s' * (threads > 1)}": time_kernels(
                program, LAMBDA, size, threads, rounds, "wall"
            )
            for threads in (1, THREADS)
            for size in MEBIBYTES
        }


def print_by_lambda(rounds: int, as_json: bool) -> None:
    """A row for each of LAMBDAS: nanoseconds of processor time an element, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        program = timing_program(Path(folder))
        found = {x: time_kernels(program, x, ELEMENTS * 4 / 2**20, 1, rounds, "process") for x in LAMBDAS}
    if as_json:
        print(json.dumps(found))
        return
    names = [name for name in found[LAMBDA] if not name.startswith(("chosen", "set-up"))]
    print(f"| lambda | {' | '.join(names)} | chosen | chosen / memcpy |\n|{' --- |' * (len(names) + 3)}")
    for lambda_, times in found.items():
        (chosen,) = (name for name in times if name.startswith("chosen"))
        cells = [spread(times[name], ".2f") if name in times else "" for name in names]
        ratios = [a / b for a, b in zip(times[chosen], times["memcpy"], strict=True)]
        print(f"| {lambda_:g} | {' | '.join(cells)} | {chosen.split()[1]} | {spread(ratios, '.2f')} |")


def spread(values: list[float], form: str) -> str:
    """Median and quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def print_tables(found: dict[str, Any]) -> None:
    """Ratios are of values of the same round."""
    print(f"{found['environment']}\n\n| operator, {THREADS} threads | AGLU, ms | QuickGelu, ms | ratio |")
    print("| --- | --- | --- | --- |")
    for shape, times in found["operators"].items():
        ratios = [a / b for a, b in zip(*(times[name] for name in OPERATORS), strict=True)]
        cells = (*(spread(times[name], ".3f") for name in OPERATORS), spread(ratios, ".2f"))
        print(f"| {shape} | {' | '.join(cells)} |")
    print("\n| kernel | ns an element | beside memcpy |\n| --- | --- | --- |")
    for size, rows in found["kernels"].items():
        set_up = rows.pop("set-up, ms")
        for name, values in rows.items():
            if name.startswith("chosen"):
                continue  # is one of the others
            ratios = [a / b for a, b in zip(values, rows["memcpy"], strict=True)]
            print(f"| {size}: {name} | {spread(values, '.3f')} | {spread(ratios, '.2f')} |")
    print(f"\nSet-up of one layer: pw {set_up['pw']:.3f} ms, acc {set_up['acc']:.3f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each operator in each round")
    parser.add_argument("--by-lambda", action="store_true", help="the kernels alone, lambda by lambda")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--operator", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.operator:
        name, shape, seconds = options.operator
        print(json.dumps(run_operator(name, tuple(json.loads(shape)), float(seconds))))
        return 0
    if options.by_lambda:
        print_by_lambda(options.rounds, options.json)
        return 0
    sets = ", ".join(building.instruction_sets())
    found = {
        "environment": f"ONNX Runtime {ort.__version__}, {platform.processor() or platform.machine()}, {sets}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "operators": operators(options.rounds, options.seconds),
        "kernels": kernels(options.rounds),
    }
    if options.json:
        print(json.dumps(found))
    else:
        print_tables(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
