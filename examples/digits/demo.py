"""The whole way on real input: a trained checkpoint comes out as verified ONNX, twice, and labels digits.

make demo
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from apa_exporters.onnx.export import export_onnx, trace_network
from apa_exporters.onnx.options import FORMATS, OnnxOptions
from rich.table import Table

import apa_deploy
from apa_deploy.cli.common import wide_console
from apa_deploy.progress import step
from apa_deploy.records.passport import Passport

sys.path.insert(0, str(Path(__file__).parent))
from data import Split, held_out

HERE = Path(__file__).parent

OUT = Path("out")
ROUNDS, SECONDS = 30, 5  # of timing; whichever ends first
Labels = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    OUT.mkdir(exist_ok=True)
    console = wide_console()
    model = apa_deploy.load(HERE / "digits.pth")
    split, passports = held_out(), {}
    runs = {"PyTorch": _torch(model)}
    right = {"PyTorch": _accuracy(runs["PyTorch"], split)}
    console.print(
        f"digits.pth: {model.metadata.architecture}, trained on the long-tailed digits; in PyTorch it labels "
        f"{right['PyTorch']:.2%} of {len(split.labels)} held-out digits"
    )
    with step("Tracing the network, once for both files"):
        traced = trace_network(model, OnnxOptions())
    for format in FORMATS:
        print(f"--- apa-export digits.pth --format {format}", flush=True)
        options = OnnxOptions(format=format, force=True)
        passports[format] = export_onnx(model, _path(format), options, traced)
        name, error = f"ONNX Runtime, {format}", passports[format].parity.outputs[0].max_rel
        runs[name] = _onnx(_path(format))
        right[name] = _accuracy(runs[name], split)
        console.print(
            f"{_path(format)} labels {right[name]:.2%} of {len(split.labels)} held-out digits, "
            f"{error:.1e} off float64"
        )
    console.print(_activations(passports["onnx"]))
    errors = ["-"] + [f"{passports[format].parity.outputs[0].max_rel:.1e}" for format in FORMATS]
    console.print(_results(runs, right, errors, split.images[:8].numpy()))
    console.print(f"written to {OUT}/: each model, and beside it the passport that proves it")


def _path(format: str) -> Path:
    return OUT / f"digits.{format}.onnx"


def _activations(passport: Passport) -> Table:
    table = Table(
        "activation", "kind", "lambda", "kappa", "decomposed as", title="what training made of lambda and kappa"
    )
    for record in passport.activations:
        table.add_row(record.path, record.kind, f"{record.lambda_[0]:.3g}", f"{record.kappa[0]:.3f}", record.form)
    return table


def _results(runs: dict[str, Labels], right: dict[str, float], errors: list[str], images: np.ndarray) -> Table:
    """Accuracy on the held-out digits and time of a batch of 8, the runtimes taking turns."""
    with step(f"Timing {len(runs)} runtimes in turns, {ROUNDS} batches of 8 each or {SECONDS} s"):
        times = _interleaved(runs, images)
    table = Table("runtime", "held-out accuracy", "error to float64", "batch of 8, median", "p90", title="results")
    for (name, milliseconds), error in zip(times.items(), errors, strict=True):
        median, p90 = statistics.median(milliseconds), statistics.quantiles(milliseconds, n=10)[-1]
        table.add_row(name, f"{right[name]:.2%}", error, f"{median:.2f} ms", f"{p90:.2f} ms")
    return table


def _torch(model: apa_deploy.Network) -> Labels:
    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model.module(torch.from_numpy(images)).numpy()

    return run


def _onnx(path: Path) -> Labels:
    session = apa_deploy.Session(path)
    return lambda images: session.run({"input": images})["logits"]


def _accuracy(run: Labels, split: Split) -> float:
    return float((run(split.images.numpy()).argmax(1) == split.labels.numpy()).mean())


def _interleaved(runs: dict[str, Labels], images: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds of each call; a few to warm up, then one of each in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + SECONDS
    for round_ in range(ROUNDS + 3):
        if round_ >= 5 and time.perf_counter() > end:  # two of each at least: quantiles want them
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run(images)
            if round_ >= 3:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


if __name__ == "__main__":
    main()
