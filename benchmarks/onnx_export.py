"""SE-ResNet50 with 65 activations: what an export costs, how right it is, and its time beside torch.onnx's own.

    python -m benchmarks.onnx_export [--rounds 30] [--json]

One process; the two files take turns, so that whatever else the machine does meets both. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from apa_exporters.onnx.export import OnnxOptions, export_onnx

from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.measure.turns import ratio_deciles, take_turns, time_ms
from apa_deploy.network import Metadata
from apa_deploy.records.passport import versions
from apa_deploy.runtimes.ort_session import open_session, session_options
from apa_deploy.tensors.signature import image_signature
from benchmarks.upstream_form import se_resnet50

SHAPE = (3, 224, 224)
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure_export(Path(folder), options.rounds, options.threads)
    print(json.dumps(result, indent=2) if options.json else table(result))


def measure_export(folder: Path, rounds: int, threads: int) -> dict[str, object]:
    network = se_resnet50()
    start = time.perf_counter()
    passport = export_onnx(
        TorchNetwork(network, image_signature(SHAPE), Metadata("se_resnet50")), folder / "ours.onnx", OnnxOptions()
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # GB, on Linux
    torch.onnx.export(network, (torch.randn(1, *SHAPE),), folder / "torch.onnx", dynamo=True, verbose=False)
    samples = time_files([folder / "ours.onnx", folder / "torch.onnx"], rounds, threads)
    assert passport.parity is not None
    check = passport.parity.outputs[0]
    return {
        "export and verification, s": seconds,
        "peak memory, GB": peak,
        "parity error / torch float32's": check.max_rel / check.torch_float32_max_rel,
        "time, ours / torch.onnx's export": statistics.median(samples[0]) / statistics.median(samples[1]),
        "spread of the time ratio, p10 to p90": ratio_deciles(*samples),
        "samples, ms": {"ours": samples[0], "torch.onnx": samples[1]},
        "environment": versions() | {"cpu": platform.processor() or platform.machine(), "threads": str(threads)},
    }


def time_files(paths: list[Path], rounds: int, threads: int) -> list[list[float]]:
    options = session_options(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # two pools share the cores
    sessions = [open_session(p, options=options) for p in paths]
    x = np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)
    timers = {
        i: partial(time_ms, partial(session.run, None, {session.get_inputs()[0].name: x}))
        for i, session in enumerate(sessions)
    }
    return list(take_turns(timers, rounds, warm_up=WARM_UP).values())


def table(result: dict[str, object]) -> str:
    lines = ["| SE-ResNet50, 65 activations, 224x224, batch 1 | |", "| --- | --- |"]
    for name, value in result.items():
        if isinstance(value, float):
            lines.append(f"| {name} | {value:.2f} |")
        elif isinstance(value, tuple):
            lines.append(f"| {name} | {value[0]:.2f} to {value[1]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
