"""How often does apa-bench call a file different from itself? It must say "no difference" 95 times in 100.

    python -m benchmarks.same_file [--runs 100] [--launches 6] [--rounds 7] [--duration 0.02] [--seed 0] [--json]

Each run is a benchmark of its own: fresh processes for both, turns that alternate, the test of apa-bench on what
they measured. The network has a convolution, fused activations and a squeeze-and-excite gate.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.bench.environment import read_load_average
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters
from apa_deploy.measure.side_by_side import TimingPlan, time_side_by_side
from apa_deploy.measure.statistics import compare_turns
from apa_deploy.measure.subject import Subject
from apa_deploy.tensors.signature import TensorSpec

CHANNELS, SIDE = 32, 32


def network() -> onnx.ModelProto:
    """conv -> AGLU, twice, times an APA gate of the pooled values."""
    generator = np.random.default_rng(0)
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    weights = [generator.standard_normal((CHANNELS, c, 3, 3)).astype(np.float32) / 9 for c in (3, CHANNELS)]
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["c0"], pads=[1] * 4),
        make_node("AGLU", "c0", "a0", Parameters((0.5,), (1.1,)), "a0"),
        helper.make_node("Conv", ["a0", "w1"], ["c1"], pads=[1] * 4),
        make_node("AGLU", "c1", "a1", Parameters((1e-8,), (0.9,)), "a1"),
        helper.make_node("GlobalAveragePool", ["a1"], ["pooled"]),
        make_node("APA", "pooled", "gate", Parameters((0.8,), (-0.5,)), "gate"),
        helper.make_node("Mul", ["a1", "gate"], ["scaled"]),
    ]
    constants = [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    output = helper.make_tensor_value_info("scaled", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "network", [image], [output], constants)
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    return with_functions(helper.make_model(graph, opset_imports=domains, ir_version=8))


Run = dict[str, Any]


def runs(count: int, plan: TimingPlan, seed: int) -> Iterator[Run]:
    """`count` benchmarks of one file beside itself, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(network(), path)
        feeds = (TensorSpec("input", "float32", ("batch", 3, SIDE, SIDE)),)
        pair = [Subject(name, str(path), "onnxruntime", feeds) for name in ("A", "A again")]
        for run in range(count):
            series, failures = time_side_by_side(pair, 1, 1, plan, seed=seed * 1000 + run)
            assert not failures, failures
            ratio, p, verdict = compare_turns(series[1].rounds, series[0].rounds, plan.launches)
            yield {"verdict": verdict, "p": p, "ratio": ratio.model_dump(), "load": read_load_average()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--launches", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--duration", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one line a run, as it ends")
    options = parser.parse_args()
    found: list[Run] = []
    for one in runs(options.runs, TimingPlan(options.launches, options.rounds, options.duration), options.seed):
        found.append(one)
        print(
            json.dumps(one) if options.json else f"run {len(found)}: {one['verdict']}, p {one['p']:.3f}", flush=True
        )
    said = sum(one["verdict"] == "no difference" for one in found)
    if not options.json:
        print(summary(found, said))
    return int(said < 0.95 * len(found))


def summary(found: Sequence[Run], said: int) -> str:
    ratios = [one["ratio"]["value"] for one in found]
    likely = sum(one["p"] < 0.05 for one in found)
    return (
        f"no difference: {said} of {len(found)}; p < 0.05 in {likely}; "
        f"ratios from {min(ratios):.3f} to {max(ratios):.3f}, median {float(np.median(ratios)):.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
