"""8-bit networks with learned activations beside their ReLU twins, float32, and other people's quantisers.

    python -m benchmarks.int8 [--rounds 25] [--networks NAME...] [--json]
    python -m benchmarks.int8 --kernels                       ns a code: tables and sums beside memcpy

Random weights: time does not depend on them. All subjects live in one process of one thread and run by turns; a
figure is the least CPU time of a run, a ratio the median over rounds. OpenVINO too has one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

import apa_deploy
from apa_deploy.architectures.activations import Learned
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.twin import twin
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.runtimes.ort_session import open_session, session_options
from apa_deploy.tensors.signature import image_signature
from benchmarks.cpu_networks import network as network_of
from benchmarks.cpu_networks import quantise_network, random_images
from benchmarks.yolo_like import yolo_like

HERE = Path(__file__).resolve().parent
SILU = "yolo_like_silu"
F32 = {"INFERENCE_PRECISION_HINT": "f32"}
NETWORKS = {"resnet50": (3, 224, 224), "se_resnet50": (3, 224, 224), SILU: (3, 320, 320)}

Run = Callable[[], Any]


def session(path: Path, x: np.ndarray, *, layout: bool = True) -> Run:
    """One run of our Session."""
    session = apa_deploy.Session(path, threads=1, layout=layout)
    feed = {session.input_names[0]: x}
    return lambda: session.run(feed)


def stock(path: Path, x: np.ndarray) -> Run:
    """One run of ONNX Runtime without our library."""
    session = open_session(path, options=session_options(threads=1))
    return lambda: session.run(None, {session.get_inputs()[0].name: x})


def openvino(path: Path, x: np.ndarray, **settings: str) -> Run:
    """One run of OpenVINO on a file of standard operators."""
    import openvino as ov

    settings |= {"INFERENCE_NUM_THREADS": "1"}
    request = ov.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda: request.infer({0: x})


def own_quantiser(model: onnx.ModelProto, x: np.ndarray, folder: Path) -> Path:
    """onnxruntime.quantization's static int8."""
    from onnxruntime import quantization

    onnx.save(model, folder / "theirs_float.onnx")
    rows = iter([{model.graph.input[0].name: x[i : i + 4]} for i in range(0, len(x), 4)])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(rows, None)

    target = folder / "theirs.onnx"
    quantization.quantize_static(folder / "theirs_float.onnx", target, Reader(), per_channel=True)
    return target


def subjects(canonical: onnx.ModelProto, sample: tuple[int, ...], batch: int, folder: Path) -> dict[str, Run]:
    """Name -> a run; the first is what the ratios are to."""
    x = random_images(sample)
    relu = onnx.ModelProto.FromString(canonical.SerializeToString())
    plain = twin(relu, "relu") if any(n.domain == "com.apa" for n in canonical.graph.node) else None
    eight, files = quantise_network(canonical, x), {}
    for name, model in {
        "int8 ReLU twin": quantise_network(plain, x) if plain else None,
        "int8": with_functions(eight),
        "int8, decomposed": decompose(onnx.ModelProto.FromString(eight.SerializeToString())),
        "fp32": with_functions(onnx.ModelProto.FromString(canonical.SerializeToString())),
        "fp32, decomposed": decompose(onnx.ModelProto.FromString(canonical.SerializeToString())),
    }.items():
        if model is not None:
            onnx.save(model, folder / f"{name}.onnx")
            files[name] = folder / f"{name}.onnx"
    one = x[:batch]
    found = {"int8 ReLU twin": stock(files["int8 ReLU twin"], one)} if plain else {}
    found |= {
        "int8": session(files["int8"], one),
        "int8, unprepared": session(files["int8"], one, layout=False),
        "fp32": session(files["fp32"], one),
        "OpenVINO fp32": openvino(files["fp32, decomposed"], one, **F32),
        "OpenVINO default": openvino(files["fp32, decomposed"], one),  # bfloat16 where a processor has AMX
        "OpenVINO int8": openvino(files["int8, decomposed"], one, **F32),
        "onnxruntime.quantization": stock(own_quantiser(onnx.load(files["fp32"]), x, folder), one),
    }
    return found


def race(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, float]]:
    """Least CPU milliseconds of each, and the median of its ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name].append((time.process_time() - start) * 1e3)
    first = next(iter(times.values()))
    return {n: (min(t), statistics.median(a / b for a, b in zip(t, first, strict=True))) for n, t in times.items()}


def canonical(network: nn.Module, sample: tuple[int, int, int]) -> onnx.ModelProto:
    """The canonical graph of a torch network."""
    network.train(False)
    return TorchNetwork(network, image_signature(sample), Metadata("network")).trace().proto


def stock_silu() -> nn.Module:
    """A YOLO with SiLU as it comes: no learned activation at all."""
    network = yolo_like()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Learned):
                setattr(parent, name, nn.SiLU())
    return network


def kernels() -> None:
    """Compile and run plugins/tests/ort_bytes_check.cc."""
    source = HERE.parent / "plugins"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "bytes"
        sources = [source / "tests/ort_bytes_check.cc", *(source / "onnxruntime").glob("bytes*.cc")]
        include = [f"-I{source / 'onnxruntime'}", f"-I{source / 'include'}"]
        subprocess.run(["c++", "-std=c++17", "-O3", *include, *sources, "-o", program], check=True)
        subprocess.run([program, "time"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.kernels:
        kernels()
        return
    torch.manual_seed(0)
    results: dict[str, dict[str, tuple[float, float]]] = {}
    for name in options.networks:
        sample = NETWORKS[name]
        proto = canonical(stock_silu() if name == SILU else network_of(name), sample)
        for batch in options.batch:
            with tempfile.TemporaryDirectory() as folder:
                found = race(subjects(proto, sample, batch, Path(folder)), options.rounds)
            results[f"{name}, batch {batch}"] = found
            if not options.json:
                print(f"{name}, batch {batch}")
                for one, (least, ratio) in found.items():
                    print(f"  {one:28} {least:9.2f} ms {ratio:6.2f}", flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
