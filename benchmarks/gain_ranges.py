"""How much of the ranges for gain and offset do right conversions use, and do they see a factor of 1.01?

    python -m benchmarks.gain_ranges [MODEL ...]            checkpoints or .onnx; default: the digits

Each output in fp32, fp16 and bf16, as a share of its range (docs/verify.md; 1: at its end): gain, offset and worst
channel of a right conversion, then the gain with everything 1 % too large and too small. Last: the least fault of
one channel that is seen, in the median of the channels.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from rich.table import Table

import apa_deploy
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.emulate import emulate_halves
from apa_deploy.graph.precision import in_precision
from apa_deploy.network import FLOAT32, TRUTH, Network
from apa_deploy.parity.gain import gain_ranges, measure_gains
from apa_deploy.parity.limits import gain_room
from apa_deploy.runtimes.ort_session import open_session
from apa_deploy.tensors.inputs import seeded_feeds
from apa_deploy.terminal import Terminal

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits.pth"
Outputs = dict[str, list[np.ndarray]]  # of each feed


def collect(runs: list[dict[str, np.ndarray]]) -> Outputs:
    """Feeds of outputs -> outputs of feeds, in float64."""
    outputs: Outputs = defaultdict(list)
    for run in runs:
        for name, value in run.items():
            outputs[name].append(np.asarray(value, np.float64))
    return outputs


def run_converted(traced: onnx.ModelProto, feeds: list[dict[str, np.ndarray]], precision: str) -> Outputs:
    """The decomposed graph in ONNX Runtime; of a half type with every value rounded."""
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    if precision != "fp32":
        model = in_precision(model, precision)
    model = decompose(model)
    if precision != "fp32":
        model = emulate_halves(model)
    session = open_session(model, optimise=precision == "fp32")
    names = [output.name for output in session.get_outputs()]
    return collect([dict(zip(names, session.run(None, feed), strict=True)) for feed in feeds])


def add_rows(table: Table, name: str, network: Network) -> None:
    """One row a precision and output."""
    feeds = seeded_feeds(network.signature)
    truth = collect([network.outputs(feed, TRUTH) for feed in feeds])
    traced = network.trace(22).proto
    for precision in ("fp32", "fp16", "bf16"):
        baseline = collect([network.outputs(feed, FLOAT32 if precision == "fp32" else precision) for feed in feeds])
        converted = run_converted(traced, feeds, precision)
        for output, right in truth.items():
            ranges = gain_ranges(right, [baseline[output]], *gain_room(precision))
            middle, half = ranges.mean(1), (ranges[:, 1] - ranges[:, 0]) / 2
            shares = [
                np.abs(measure_gains(right, [value * factor for value in converted[output]]) - middle) / half
                for factor in (1, 1.01, 0.99)
            ]
            own, larger, smaller = shares
            figures = [own[0], own[1], own[2:].max(), larger[0], smaller[0]]
            cells = [f"{figure:.2f}" for figure in figures]
            table.add_row(name, output, precision, *cells, f"{np.median(half[2:]):.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, default=[DIGITS], metavar="MODEL")
    table = Table(
        "model", "output", "type", "gain", "offset", "channel", "x 1.01", "x 0.99", "a channel is seen from"
    )
    for path in parser.parse_args().models:
        add_rows(table, path.name, apa_deploy.load(path))
    Terminal().print(table)


if __name__ == "__main__":
    main()
