"""Requests a second and latency of apa-serve, beside a real tritonserver in the same run with equal batching.

    python -m benchmarks.serving [--triton] [--before CHECKOUT] [--only tiny/http/8] [--rounds 5] [--seconds 2]

Three models: `tiny` (two activations on four numbers) shows the cost of the protocols, `network` (SE-ResNet50,
65 activations, 64x64) that of a network, `large` (one activation on 3 MB) that of large tensors. All servers: one
instance, one thread, batches up to 8, no delay, the fused operator where it is built. They take turns within each
round, so that whatever else the machine does meets all; the client, tritonclient's asyncio one, is this process.
With them run what a server on grpc.aio can do at most, one with a handler that computes nothing (`empty_grpc.py`),
and, with --before, apa-serve of another checkout. Memory is what a server's processes hold after its turn; requests
that were refused (a full queue) are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc.aio
import tritonclient.http.aio
from apa_exporters.onnx.export import OnnxOptions, export_onnx
from apa_exporters.triton.check import write_sums
from apa_exporters.triton.export import TritonOptions, export_triton
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.maths import Parameters
from apa_deploy.network import Metadata
from apa_deploy.records.passport import versions
from apa_deploy.tensors.signature import image_signature
from benchmarks.tritonserver import TritonServer, environment
from benchmarks.upstream_form import se_resnet50

EMPTY = "empty handler"
CLIENTS = {"http": tritonclient.http.aio, "grpc": tritonclient.grpc.aio}
CONCURRENCY = {"tiny": (1, 8, 64, 512), "network": (1, 8, 64), "large": (1, 8)}
SERVERS = ("apa-serve", "before", "tritonserver", EMPTY)
MAX_BATCH, PORT, SIZE, LARGE, QUEUE = 8, 18400, 64, 3 * 512 * 512, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triton", action="store_true")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another apa-deploy, with its libraries")
    parser.add_argument("--only", default="", metavar="MODEL/PROTOCOL/N", help="rows that begin with this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = start_servers(Path(folder), options.triton, options.before, options.only, stack)
        samples = asyncio.run(measure(servers, options.rounds, options.seconds, options.only))
    result = summarise(samples, options.seconds)
    if options.json:
        print(json.dumps({"environment": versions(), "figures": result}, indent=2))
    else:
        print(table(result))


@dataclass
class Server:
    """Addresses by protocol, and the process."""

    addresses: dict[str, str]
    pid: int

    def memory(self) -> float:
        """MiB that the process and those that it started hold."""
        rows = subprocess.run(["ps", "-eo", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
        table = [tuple(map(int, row.split())) for row in rows.splitlines()]
        family = {self.pid}
        for _ in range(4):  # generations
            family |= {pid for pid, parent, _ in table if parent in family}
        return sum(kib for pid, _, kib in table if pid in family) / 1024


@dataclass
class Turn:
    """One server's turn at one row: latencies in ms, requests refused, MiB held after it."""

    times: list[float]
    refused: int
    memory: float


def start_servers(
    folder: Path, triton: bool, before: Path | None, only: str, stack: contextlib.ExitStack
) -> dict[str, Server]:
    """Every server, on the same files, by name."""
    models = folder / "models"
    models.mkdir()
    wanted = [make for make in (tiny, network, large) if make.__name__ in (only.split("/")[0] or CONCURRENCY)]
    files = [make(models / f"{make.__name__}.onnx") for make in wanted]
    servers = {"apa-serve": start_apa_serve(models, PORT, None, stack), EMPTY: start_empty_handler(stack)}
    if before:
        servers["before"] = start_apa_serve(models, PORT + 10, before.absolute(), stack)
    if not triton:
        print("no --triton: apa-serve alone", file=sys.stderr)
        return servers
    repositories = [folder / f"{file.stem}.triton" for file in files]
    for file, repository in zip(files, repositories, strict=True):
        export_triton(
            file, repository, TritonOptions(backend="python", batches=(1, MAX_BATCH, MAX_BATCH), threads=1)
        )
        for config in repository.glob("*/config.pbtxt"):
            config.write_text(config.read_text().replace("max_queue_size: 256", f"max_queue_size: {QUEUE}"))
        write_sums(repository)
    more = [f"--model-repository={repository}" for repository in repositories[1:]]
    server = TritonServer(environment(), repositories[0], folder / "work", *more)
    stack.enter_context(server)
    servers["tritonserver"] = Server({"http": server.http, "grpc": server.grpc}, server.process.pid)
    return servers


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


def large(path: Path) -> Path:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", LARGE)) for name in ("x", "y")]
    nodes = [make_node("AGLU", "x", "y", Parameters((0.5,), (1.0,)), "unit")]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:])
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


def start_apa_serve(models: Path, port: int, checkout: Path | None, stack: contextlib.ExitStack) -> Server:
    ports = ["--http-port", port, "--grpc-port", port + 1, "--metrics-port", port + 2]
    settings = ["--max-batch", MAX_BATCH, "--threads", 1, "--queue", QUEUE, "--no-request-log"]
    command = [sys.executable, "-m", "apa_deploy.cli.serve", models, *ports, *settings]
    where = {**os.environ, "PYTHONPATH": str(checkout)} if checkout else None
    process = stack.enter_context(
        subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, env=where, cwd=checkout)
    )
    stack.callback(process.terminate)
    addresses = {"http": f"127.0.0.1:{port}", "grpc": f"127.0.0.1:{port + 1}"}
    asyncio.run(wait_until_ready(addresses["http"]))
    return Server(addresses, process.pid)


def start_empty_handler(stack: contextlib.ExitStack) -> Server:
    address = f"127.0.0.1:{PORT + 3}"
    process = stack.enter_context(
        subprocess.Popen([sys.executable, Path(__file__).with_name("empty_grpc.py"), address])
    )
    stack.callback(process.terminate)
    return Server({"grpc": address}, process.pid)


async def wait_until_ready(address: str) -> None:
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        while True:
            with contextlib.suppress(OSError):
                if await client.is_server_ready():
                    return
            await asyncio.sleep(0.1)


Key = tuple[str, str, int, str]  # model, protocol, concurrency, server


async def measure(servers: dict[str, Server], rounds: int, seconds: float, only: str) -> dict[Key, list[Turn]]:
    """A turn for each round; a first round warms up and is dropped."""
    samples: dict[Key, list[Turn]] = defaultdict(list)
    rows = [(m, p, n) for m, counts in CONCURRENCY.items() for p in CLIENTS for n in counts]
    for round_ in range(rounds + 1):
        for model, protocol, concurrency in rows:
            if not f"{model}/{protocol}/{concurrency}/".startswith(f"{only.rstrip('/')}/" if only else ""):
                continue
            for name in sorted(servers, reverse=bool(round_ % 2)):
                if name == EMPTY and (model, protocol) != ("tiny", "grpc"):
                    continue
                turn = await put_load(servers[name], protocol, model, concurrency, seconds)
                if round_:
                    samples[model, protocol, concurrency, name].append(turn)
    return samples


async def put_load(server: Server, protocol: str, model: str, concurrency: int, seconds: float) -> Turn:
    module, turn = CLIENTS[protocol], Turn([], 0, 0.0)
    options = {"conn_limit": concurrency} if protocol == "http" else {}
    async with module.InferenceServerClient(server.addresses[protocol], **options) as client:
        spec = (await metadata_of(client, model, protocol))["inputs"][0]
        shape = [1, *map(int, spec["shape"][1:])]
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        end = time.perf_counter() + seconds

        async def one() -> None:
            tensor = module.InferInput(spec["name"], shape, "FP32")
            tensor.set_data_from_numpy(x)
            while (start := time.perf_counter()) < end:
                try:
                    await client.infer(model, [tensor])
                    turn.times.append((time.perf_counter() - start) * 1e3)
                except InferenceServerException:
                    turn.refused += 1

        await asyncio.gather(*(one() for _ in range(concurrency)))
    turn.memory = server.memory()
    return turn


async def metadata_of(client, model: str, protocol: str) -> dict:
    return await client.get_model_metadata(model, **({"as_json": True} if protocol == "grpc" else {}))


def summarise(samples: dict[Key, list[Turn]], seconds: float) -> list[dict]:
    """A row for each model, protocol and concurrency; figures are medians over the rounds."""
    rows = []
    for model, protocol, concurrency in dict.fromkeys(key[:3] for key in samples):
        row: dict = {"model": model, "protocol": protocol, "concurrency": concurrency}
        for server in SERVERS:
            if turns := samples.get((model, protocol, concurrency, server)):
                row[server] = take_medians(turns, seconds)
        for other in ("before", "tritonserver"):
            if other in row:
                row[f"throughput / {other}"] = row["apa-serve"]["requests/s"] / row[other]["requests/s"]
                row[f"p99 / {other}"] = row["apa-serve"]["p99 ms"] / row[other]["p99 ms"]
        rows.append(row)
    return rows


def take_medians(turns: list[Turn], seconds: float) -> dict[str, float]:
    return {
        "requests/s": statistics.median(len(turn.times) / seconds for turn in turns),
        "p50 ms": statistics.median(float(np.percentile(turn.times, 50)) for turn in turns),
        "p99 ms": statistics.median(float(np.percentile(turn.times, 99)) for turn in turns),
        "MiB": statistics.median(turn.memory for turn in turns),
        "refused": sum(turn.refused for turn in turns),
    }


def table(rows: list[dict]) -> str:
    servers = [server for server in SERVERS[:-1] if any(server in row for row in rows)]
    titles = [f"{server}: requests/s, p50, p99 ms, MiB, refused" for server in servers]
    ratio = [name for name in rows[0] if " / " in name]
    heads = ["model", "protocol", "at once", *titles, *ratio, f"{EMPTY}: requests/s"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        cells = [" / ".join(f"{value:.4g}" for value in row[server].values()) for server in servers]
        ratios = [f"{row[name]:.2f}" for name in ratio]
        empty = f"{row[EMPTY]['requests/s']:.3g}" if EMPTY in row else ""
        lines.append(_line([row["model"], row["protocol"], row["concurrency"], *cells, *ratios, empty]))
    return "\n".join(lines)


def _line(cells: list) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
