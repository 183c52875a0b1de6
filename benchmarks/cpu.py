"""Networks with AGLU beside their ReLU twins and beside other runtimes, on the CPU.

    python -m benchmarks.cpu [twins | runtimes | batches | parts | wide | detector | small ...] [--clock process]

Each configuration is a process of its own; they take turns, so that whatever else the machine does meets all of
them. A turn is an inference that fetches the weights back into the caches and one that is timed. A ratio is the
median of the ratios within a round, its spread their tenth and ninetieth percentile. Memory is what is resident
after loading and warming up.

On a machine that others share, take `--clock process --threads 1`: the processor time of the configuration's own
process. Of several threads it also counts those that wait, for they spin.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from apa_deploy.measure.turns import pair_ratios, ratio_deciles, take_turns
from apa_deploy.progress import step
from apa_deploy.records.passport import versions
from benchmarks.cpu_networks import PARTS, SHAPES, add_detector, write_network

MOST_ROUNDS = 8  # times --rounds, at batch 1: short runs are noisier
REST = 0.02  # seconds between two runs, in which the threads of the first stop spinning
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Config:
    """One process. `layout`: whether ours keeps the blocked layout; `inputs`: one of `cpu_worker.INPUTS`."""

    label: str
    runtime: str
    path: str
    batch: int = 1
    threads: int = 2
    layout: bool = True
    network: str = "resnet50"
    clock: str = "wall"
    inputs: str = "normal"
    flush: bool = False


@dataclass(frozen=True)
class Row:
    """A question: how long does `ours` take beside `other`?"""

    what: str
    ours: Config
    other: Config
    goal: float | None = None


def relu(batch: int, network: str = "resnet50") -> Config:
    return Config("ReLU twin", "onnxruntime", f"{network}.relu.onnx", batch, network=network)


def aglu(batch: int, network: str = "resnet50", layout: bool = True) -> Config:
    return Config("AGLU", "ours", f"{network}.aglu.onnx", batch, layout=layout, network=network)


def twins() -> list[Row]:
    rows = []
    for batch, goal in ((1, 1.05), (8, 1.04)):
        rows.append(Row(f"AGLU ResNet-50 / ReLU twin, batch {batch}", aglu(batch), relu(batch), goal))
        plain = aglu(batch, layout=False)
        rows.append(Row(f"the same without the blocked layout, batch {batch}", plain, relu(batch)))
    for batch in (1, 8):
        ours, stock = (make(batch, network="se_resnet50") for make in (aglu, relu))
        rows.append(Row(f"AGLU+APA SE-ResNet50 / stock, ReLU and Sigmoid, batch {batch}", ours, stock, 0.85))
    return rows


def runtimes(network: str = "resnet50", name: str = "AGLU ResNet-50") -> list[Row]:
    ours = aglu(1, network)
    others = [
        ("torch.onnx's export in ONNX Runtime", "onnxruntime", "torch.onnx", 0.40),
        ("OpenVINO (f32) on our decomposed graph", "openvino", "decomposed.onnx", 0.92),
        # the precision that OpenVINO chooses: bfloat16 where a processor has AMX
        ("OpenVINO (default) on our decomposed graph", "openvino default", "decomposed.onnx", None),
        ("torch.compile", "torch.compile", "aglu.onnx", 0.80),
    ]
    rows = []
    for label, runtime, file, goal in others:
        other = replace(ours, label=label, runtime=runtime, path=f"{network}.{file}")
        rows.append(Row(f"{name} / {label}", ours, other, goal))
    coded = replace(ours, label="AGLU in 8 bits", path=f"{network}.int8.onnx")
    return [*rows, Row(f"{name} in 8 bits / in float32", coded, ours)]


def small() -> list[Row]:
    """The rows of `runtimes` on a network of a few layers: do they all run here?"""
    return runtimes("small", "a small network")


def detector() -> list[Row]:
    """YOLOv8n, where `--folder` holds it as `apa-export FILE --format onnx-custom` writes it."""
    ours = Config("AGLU", "ours", "detector.aglu.onnx", network="detector")
    silu = replace(ours, label="SiLU twin", runtime="onnxruntime", path="detector.silu.onnx")
    return [Row("YOLOv8n with AGLU / the same graph with SiLU, batch 1", ours, silu, 1.00)]


def batches() -> list[Row]:
    return [Row(f"batch {batch}", aglu(batch), relu(batch)) for batch in (1, 2, 4, 8, 16, 32)]


def parts() -> list[Row]:
    few = [Config(f"{n} AGLU", "ours", f"resnet50.{n}.onnx") for n in PARTS[1:-1]]
    counted = zip(PARTS[1:], [*few, aglu(1)], strict=True)
    return [Row(f"{count} of 49 activations are AGLU", config, relu(1)) for count, config in counted]


def wide() -> list[Row]:
    """Activations that spread over +-9 and more: do results below 2^-126 slow down what comes behind them?"""
    cases = [
        ("six activations and convolutions, ours", "ours", "wide.aglu.onnx", "wide"),
        ("six activations and convolutions, decomposed", "onnxruntime", "wide.decomposed.onnx", "wide"),
        ("a convolution whose input has such numbers", "onnxruntime", "wide.conv.onnx", "subnormal"),
    ]
    rows = []
    for what, runtime, path, inputs in cases:
        config = Config(what, runtime, path, layout=False, network="wide", inputs=inputs)
        rows.append(Row(f"wide: {what} / flushed", config, replace(config, flush=True), 1.0))
    return rows


TABLES = {
    "twins": twins,
    "runtimes": runtimes,
    "small": small,
    "batches": batches,
    "parts": parts,
    "wide": wide,
    "detector": detector,
}
ALONE = ("small", "detector")  # not measured where no table is named, unless --detector asks for it
THREADS = {"batches": (1, 2)}  # where --threads is not given; else 2


def rows_of(name: str, threads: int | None, clock: str) -> list[Row]:
    """The rows of a table, each at its thread counts or at `threads` alone."""
    counts = (threads,) if threads else THREADS.get(name, (2,))
    rows = []
    for count in counts:
        label = f", {count} thread{'s' * (count > 1)}" if len(counts) > 1 else ""
        for row in TABLES[name]():
            ours, other = (replace(config, threads=count, clock=clock) for config in (row.ours, row.other))
            rows.append(Row(row.what + label, ours, other, row.goal))
    return rows


class Worker:
    """A running configuration."""

    def __init__(self, config: Config, folder: Path) -> None:
        job = asdict(config) | {"path": str((folder / config.path).resolve()), "shape": SHAPES[config.network]}
        environment = os.environ | {"OMP_NUM_THREADS": str(config.threads), "ORT_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-m", "benchmarks.cpu_worker", json.dumps(job)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self.memory = json.loads(self._line())["memory_mb"]

    def run(self) -> float:
        """Milliseconds of one inference."""
        time.sleep(REST)
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended")
        return line


@contextmanager
def workers(configs: Sequence[Config], folder: Path) -> Iterator[dict[Config, Worker]]:
    with ExitStack() as stack:
        running = {}
        for config in configs:
            running[config] = Worker(config, folder)
            stack.callback(running[config].close)
        yield running


def measure_rows(rows: Sequence[Row], folder: Path, rounds: int) -> list[dict[str, object]]:
    """Rows of one network, batch and thread count run together, and no more processes at a time than that.

    Networks that are not in `folder` are written there.
    """
    _write_missing(rows, folder)
    results = []
    for key in dict.fromkeys(map(_together, rows)):
        group = [row for row in rows if _together(row) == key]
        configs = list(dict.fromkeys(config for row in group for config in (row.ours, row.other)))
        with step(", ".join(row.what for row in group)), workers(configs, folder) as running:
            timers = {config: worker.run for config, worker in running.items()}
            samples = take_turns(timers, rounds * max(1, MOST_ROUNDS // configs[0].batch), warm_up=0)
            results += [_result(row, samples, running) for row in group]
    return results


def _write_missing(rows: Sequence[Row], folder: Path) -> None:
    files: dict[str, set[str]] = {}
    for config in (config for row in rows for config in (row.ours, row.other)):
        files.setdefault(config.network, set()).add(config.path)
    for network, names in files.items():
        if not all((folder / name).exists() for name in names):
            with step(f"Exporting {network}"):
                write_network(network, folder)


def _together(row: Row) -> tuple[object, ...]:
    return row.ours.network, row.ours.batch, row.ours.threads


def _result(row: Row, samples: dict[Config, list[float]], running: dict[Config, Worker]) -> dict[str, object]:
    ours, other = samples[row.ours], samples[row.other]
    low, high = ratio_deciles(ours, other)
    return {
        "what": row.what,
        "ratio": statistics.median(pair_ratios(ours, other)),
        "p10": low,
        "p90": high,
        "goal": row.goal,
        "ours_ms": statistics.median(ours),
        "other_ms": statistics.median(other),
        "memory_ratio": running[row.ours].memory / running[row.other].memory,
        "samples_ms": {"ours": ours, "other": other},
    }


def table(results: Sequence[dict[str, object]]) -> str:
    lines = ["| what | ratio (p10 to p90) | goal | ms | memory |", "| --- | --- | --- | --- | --- |"]
    for r in results:
        spread, goal = f"{r['ratio']:.2f} ({r['p10']:.2f} to {r['p90']:.2f})", f"{r['goal'] or ''}"
        times = f"{r['ours_ms']:.1f} / {r['other_ms']:.1f}"
        lines.append(f"| {r['what']} | {spread} | {goal} | {times} | {r['memory_ratio']:.2f} |")
    return "\n".join(lines)


def environment() -> dict[str, str]:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), "")
    # what decides about the rows in 8 bits and in OpenVINO's default precision
    kinds = [name for name in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_bf16") if name in info.split()]
    cpu = f"{model or platform.machine()} ({' '.join(kinds)}), {os.cpu_count()} cores"
    return {"cpu": cpu, "load": f"{os.getloadavg()[0]:.1f}"} | versions() | versions(["openvino"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)}; default: all but small")
    parser.add_argument("--rounds", type=int, default=12, help="at batch 8 and above; 12")
    parser.add_argument("--threads", type=int, help="of every configuration; 2, and 1 as well for batches")
    parser.add_argument("--clock", choices=["wall", "process"], default="wall", help="what a time is; wall")
    parser.add_argument("--folder", type=Path, help="where the models lie or are written; default: a temporary one")
    parser.add_argument("--detector", type=Path, help="YOLOv8n from apa-export --format onnx-custom")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"{', '.join(unknown)}: no such table; wanted {', '.join(TABLES)}")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads {options.threads}; wanted 1 or more")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        if options.detector:
            add_detector(options.detector, folder)
        names = options.tables or [name for name in TABLES if name not in ALONE]
        if options.detector and "detector" not in names:
            names.append("detector")
        if "detector" in names and not (folder / "detector.aglu.onnx").exists():
            parser.error("the table detector wants --detector FILE, YOLOv8n from apa-export --format onnx-custom")
        results = {}
        for name in names:
            results[name] = measure_rows(rows_of(name, options.threads, options.clock), folder, options.rounds)
            if not options.json:
                print(table(results[name]), end="\n\n", flush=True)
    about = {"clock": options.clock} | environment()
    if options.json:
        print(json.dumps({"environment": about, "tables": results}, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in about.items()))


if __name__ == "__main__":
    main()
