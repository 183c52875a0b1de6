"""Requests a second and latency of apa-serve, beside a real tritonserver in the same run with equal batching.

    python -m benchmarks.serving [--triton] [--rounds 5] [--seconds 2] [--json]

Two models: `tiny` (two activations on four numbers) shows the cost of the protocols alone, `network` (SE-ResNet50,
65 activations, 64x64) that of a network. Both servers: one instance, one thread, batches up to 8, no delay, the
fused operator where it is built. They take turns within each round, so that whatever else the machine does meets
both; the client, tritonclient's asyncio one, is this process. With them runs what a server on grpc.aio can do
at most: one with a handler that computes nothing (`empty_grpc.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc.aio
import tritonclient.http.aio
from apa_exporters.onnx.export import OnnxOptions, export_onnx
from apa_exporters.triton.export import TritonOptions, export_triton
from onnx import TensorProto, helper

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import Parameters, make_node
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.network import Metadata
from apa_deploy.records.passport import versions
from apa_deploy.tensors.signature import image_signature
from benchmarks.tritonserver import TritonServer, environment
from benchmarks.upstream_form import se_resnet50

EMPTY = "empty handler"
CLIENTS = {"http": tritonclient.http.aio, "grpc": tritonclient.grpc.aio}
CONCURRENCY = (1, 8, 64)
MAX_BATCH, PORT, SIZE = 8, 18400, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triton", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        addresses = start_servers(Path(folder), options.triton, stack)
        samples = asyncio.run(measure_servers(addresses, options.rounds, options.seconds))
    result = summary(samples, options.seconds)
    if options.json:
        print(json.dumps({"environment": versions(), "figures": result}, indent=2))
    else:
        print(table(result))


def start_servers(folder: Path, triton: bool, stack: contextlib.ExitStack) -> dict[str, dict[str, str]]:
    """Both servers on the same files: {server: {protocol: address}}."""
    models = folder / "models"
    models.mkdir()
    files = [tiny(models / "tiny.onnx"), network(models / "network.onnx")]
    addresses = {"apa-serve": apa_serve(models, stack), EMPTY: empty_handler(stack)}
    if not triton:
        print("no --triton: apa-serve alone", file=sys.stderr)
        return addresses
    repositories = [folder / f"{file.stem}.triton" for file in files]
    for file, repository in zip(files, repositories, strict=True):
        export_triton(
            file, repository, TritonOptions(backend="python", batches=(1, MAX_BATCH, MAX_BATCH), threads=1)
        )
    more = f"--model-repository={repositories[1]}"
    server = TritonServer(environment(), repositories[0], folder / "work", more)
    stack.enter_context(server)
    return addresses | {"tritonserver": {"http": server.http, "grpc": server.grpc}}


def tiny(path: Path) -> Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 4)) for name in ("x", "h", "y")]
    nodes = [
        make_node("AGLU", "x", "h", Parameters((0.5,), (1.0,)), "unit"),
        make_node("APA", "h", "y", Parameters((1.5,), (1.0,)), "gate"),
    ]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[2:])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    onnx.save(with_functions(helper.make_model(graph, opset_imports=domains, ir_version=8)), path)
    return path


def network(path: Path) -> Path:
    model = TorchNetwork(se_resnet50(), image_signature((3, SIZE, SIZE)), Metadata("se_resnet50"))
    export_onnx(model, path, OnnxOptions(format="onnx-custom", verify=False))
    fixed = onnx.load(path)  # the load's inputs are of the shape that the server tells
    for dim, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim[2:], (SIZE, SIZE), strict=True):
        dim.dim_value = size
    onnx.save(fixed, path)
    path.with_name(path.name + ".passport.json").unlink()  # it speaks of the file as exported
    return path


def apa_serve(models: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    ports = ["--http-port", PORT, "--grpc-port", PORT + 1, "--metrics-port", PORT + 2]
    settings = ["--max-batch", MAX_BATCH, "--threads", 1, "--no-request-log"]
    command = [sys.executable, "-m", "apa_deploy.cli.serve", models, *ports, *settings]
    process = stack.enter_context(subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL))
    stack.callback(process.terminate)
    addresses = {"http": f"127.0.0.1:{PORT}", "grpc": f"127.0.0.1:{PORT + 1}"}
    asyncio.run(until_ready(addresses["http"]))
    return addresses


def empty_handler(stack: contextlib.ExitStack) -> dict[str, str]:
    address = f"127.0.0.1:{PORT + 3}"
    process = stack.enter_context(
        subprocess.Popen([sys.executable, Path(__file__).with_name("empty_grpc.py"), address])
    )
    stack.callback(process.terminate)
    return {"grpc": address}


async def until_ready(address: str) -> None:
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        while True:
            with contextlib.suppress(OSError):
                if await client.is_server_ready():
                    return
            await asyncio.sleep(0.1)


Key = tuple[str, str, int, str]  # model, protocol, concurrency, server


async def measure_servers(
    addresses: dict[str, dict[str, str]], rounds: int, seconds: float
) -> dict[Key, list[list[float]]]:
    """Latencies in ms, a list for each round; a first round warms up and is dropped."""
    samples: dict[Key, list[list[float]]] = defaultdict(list)
    for round_ in range(rounds + 1):
        for model in ("tiny", "network"):
            for protocol in CLIENTS:
                for concurrency in CONCURRENCY:
                    for server in sorted(addresses, reverse=bool(round_ % 2)):
                        if server == EMPTY and (model, protocol) != ("tiny", "grpc"):
                            continue
                        times = await load(protocol, addresses[server][protocol], model, concurrency, seconds)
                        if round_:
                            samples[model, protocol, concurrency, server].append(times)
    return samples


async def load(protocol: str, address: str, model: str, concurrency: int, seconds: float) -> list[float]:
    module, times = CLIENTS[protocol], []
    options = {"conn_limit": concurrency} if protocol == "http" else {}
    async with module.InferenceServerClient(address, **options) as client:
        spec = (await metadata_of(client, model, protocol))["inputs"][0]
        shape = [1, *map(int, spec["shape"][1:])]
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        end = time.perf_counter() + seconds

        async def one() -> None:
            tensor = module.InferInput(spec["name"], shape, "FP32")
            tensor.set_data_from_numpy(x)
            while (start := time.perf_counter()) < end:
                await client.infer(model, [tensor])
                times.append((time.perf_counter() - start) * 1e3)

        await asyncio.gather(*(one() for _ in range(concurrency)))
    return times


async def metadata_of(client, model: str, protocol: str) -> dict:
    return await client.get_model_metadata(model, **({"as_json": True} if protocol == "grpc" else {}))


def summary(samples: dict[Key, list[list[float]]], seconds: float) -> list[dict]:
    """A row for each model, protocol and concurrency; figures are medians over the rounds."""
    rows = []
    for model, protocol, concurrency in dict.fromkeys(key[:3] for key in samples):
        row: dict = {"model": model, "protocol": protocol, "concurrency": concurrency}
        for server in ("apa-serve", "tritonserver", EMPTY):
            rounds = samples.get((model, protocol, concurrency, server))
            if rounds:
                row[server] = figures(rounds, seconds)
        rows.append(row | ratios(row))
    return rows


def figures(rounds: list[list[float]], seconds: float) -> dict[str, float]:
    return {
        "requests/s": statistics.median(len(times) / seconds for times in rounds),
        "p50 ms": statistics.median(float(np.percentile(times, 50)) for times in rounds),
        "p99 ms": statistics.median(float(np.percentile(times, 99)) for times in rounds),
    }


def ratios(row: dict) -> dict[str, float]:
    if "tritonserver" not in row:
        return {}
    ours, theirs = row["apa-serve"], row["tritonserver"]
    return {"throughput": ours["requests/s"] / theirs["requests/s"], "p99": ours["p99 ms"] / theirs["p99 ms"]}


def table(rows: list[dict]) -> str:
    servers = [server for server in ("apa-serve", "tritonserver") if server in rows[0]]
    titles = [f"{server}: requests/s, p50, p99 ms" for server in servers]
    ratio = ["throughput ratio", "p99 ratio"] if len(servers) == 2 else []
    lines = [
        _line(["model", "protocol", "at once", *titles, *ratio, f"{EMPTY}: requests/s"]),
        _line(["---"] * (4 + len(titles) + len(ratio))),
    ]
    for row in rows:
        cells = [" / ".join(f"{value:.3g}" for value in row[server].values()) for server in servers]
        extra = [f"{row['throughput']:.2f}", f"{row['p99']:.2f}"] if ratio else []
        extra += [f"{row[EMPTY]['requests/s']:.3g}" if EMPTY in row else ""]
        lines.append(_line([row["model"], row["protocol"], row["concurrency"], *cells, *extra]))
    return "\n".join(lines)


def _line(cells: list) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
