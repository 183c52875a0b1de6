"""A whole detector in ONNX Runtime beside the same with ReLU, and with activations as torch.onnx spells them.

    python -m benchmarks.detectors detector.custom.onnx [--size 800x1344] [--turns 5] [--threads 1] [--json]

The file is of `apa-export DETECTOR.pth --format onnx-custom`. All live in one process and run by turns on the
photograph; figures are processor time, ratios medians over the turns. A stage's share is the time up to its last
values, less that of the stage before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from apa_deploy.detection.gate import cut_at
from apa_deploy.detection.graph import FEATURES
from apa_deploy.detection.nodes import PREFIX
from apa_deploy.detection.pictures import photograph_feed
from apa_deploy.graph.node import is_activation, read_parameters
from apa_deploy.graph.twin import twin
from apa_deploy.maths import UNIT
from apa_deploy.measure.turns import take_turns, time_ms
from apa_deploy.native import ort_library
from apa_deploy.runtimes.ort_session import open_session, save_model, session_options
from apa_deploy.runtimes.session import Session

Run = Callable[[], Any]
OURS = "ours"
# The last values of each stage, in the order in which they are computed; masks are what is left.
STAGES = {
    "FPN and RPN": ("rpn_boxes", "rpn_scores"),
    "proposals": ("rois0",),
    "box heads": ("cls_score", "bbox_pred"),
    "last NMS": ("boxes", "scores"),
}
# softplus(kappa z - ln lambda, beta=-1) / lambda, as torch.onnx writes it.
SPELLING = (
    ("Mul", "kappa"),
    ("Sub", "log"),
    ("Mul", "beta"),
    ("Softplus", ""),
    ("Div", "beta"),
    ("Div", "lambda"),
    ("Exp", ""),
)


def spell_as_torch(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself with every canonical activation as torch.onnx writes upstream's module."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += _spelling(node, model.graph) if is_activation(node) else [node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.functions[:]
    model.graph.node.extend(kept)
    return model


def _spelling(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    pairs, own, value = np.array(read_parameters(node).pairs), node.output[0], node.input[0]
    shape = (len(pairs), 1, 1) if len(pairs) > 1 else (1,)
    lambdas, kappas = (pairs[:, i].reshape(shape).astype(np.float32) for i in (0, 1))
    lambdas = np.maximum(lambdas, np.float32(1e-8))  # its floor
    constants = {"kappa": kappas, "log": np.log(lambdas), "lambda": lambdas, "beta": np.float32([-1])}
    graph.initializer.extend(numpy_helper.from_array(v, f"{own}/torch/{k}") for k, v in constants.items())
    nodes = []
    for i, (operator, constant) in enumerate(SPELLING):
        inputs = [value, f"{own}/torch/{constant}"] if constant else [value]
        value = own if i + 1 == len(SPELLING) and node.op_type != UNIT else f"{own}/torch/{i}"
        nodes.append(helper.make_node(operator, inputs, [value]))
    return [*nodes, helper.make_node("Mul", [node.input[0], value], [own])] if node.op_type == UNIT else nodes


def _plain(model: onnx.ModelProto, path: Path, threads: int, feed: Mapping[str, np.ndarray]) -> Run:
    """As somebody with ONNX Runtime alone runs it."""
    options = session_options()
    options.intra_op_num_threads = threads
    save_model(model, path)
    return partial(open_session(path, options=options).run, None, dict(feed))


def _ours(model: onnx.ModelProto, path: Path, threads: int, feed: Mapping[str, np.ndarray]) -> Run:
    ort_library()  # says what is missing where it is not built
    save_model(model, path)
    wanted = {value.name for value in model.graph.input}
    return partial(
        Session(path, threads=threads).run, {name: array for name, array in feed.items() if name in wanted}
    )


def race(runs: Mapping[str, Run], turns: int) -> dict[str, list[float]]:
    """Processor milliseconds of each, turn by turn."""
    timers = {name: partial(time_ms, run, time.process_time) for name, run in runs.items()}
    return take_turns(timers, turns, warm_up=1, least=turns)


def measure(model: onnx.ModelProto, size: tuple[int, int], turns: int, threads: int) -> dict[str, Any]:
    """Ratios to ours, shares of ours by stage, and the number of nodes behind the backbone."""
    feed = photograph_feed((3, *size))
    backbone = tuple(n.input[0] for n in model.graph.node if n.name.startswith(PREFIX) and n.input[0])[:4]
    stages = {"backbone": backbone, **{n: (*FEATURES, *v) for n, v in STAGES.items()}}
    if "masks" not in {value.name for value in model.graph.output}:
        del stages["last NMS"]  # it is what is left

    def copied() -> onnx.ModelProto:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        return other

    with tempfile.TemporaryDirectory() as scratch:
        at = Path(scratch)
        runs = {
            OURS: _ours(copied(), at / "ours.onnx", threads, feed),
            "torch.onnx's spelling": _plain(spell_as_torch(copied()), at / "torch.onnx", threads, feed),
            "ReLU": _plain(twin(copied(), plain="relu"), at / "relu.onnx", threads, feed),
        }
        whole = race(runs, turns)
        parts = {
            name: _ours(cut_at(copied(), {}, values), at / f"{i}.onnx", threads, feed)
            for i, (name, values) in enumerate(stages.items())
        }
        rest = "masks" if "last NMS" in parts else "last NMS"
        times = {name: median(taken) for name, taken in race(parts | {rest: runs[OURS]}, turns).items()}
    before = [0.0, *times.values()]
    total = before[-1]
    return {
        "size": list(size),
        "ms": {name: median(taken) for name, taken in whole.items()},
        "ratio": {n: median(a / b for a, b in zip(t, whole[OURS], strict=True)) for n, t in whole.items()},
        "share": {name: (value - before[i]) / total for i, (name, value) in enumerate(times.items())},
        "nodes behind the backbone": sum(node.name.startswith(PREFIX) for node in model.graph.node),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("--size", default="800x1344", help="height x width of the padded picture")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    found = measure(onnx.load(options.detector), (height, width), options.turns, options.threads)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, ratio in found["ratio"].items():
        print(f"{name:24} {found['ms'][name]:9.1f} ms {ratio:6.2f}")
    for name, share in found["share"].items():
        print(f"  {name:22} {share:8.0%}")
    print(f"{found['nodes behind the backbone']} nodes behind the backbone")


if __name__ == "__main__":
    main()
