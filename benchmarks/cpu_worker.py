"""One configuration of `cpu.py` in a process of its own: loads, warms up, then runs twice a line of its input.

Prints one JSON line when ready, with its memory, and one number a line: milliseconds of the second.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from apa_deploy.maths import aglu_float64
from apa_deploy.measure.turns import time_ms
from apa_deploy.runtimes.onnxruntime import set_subnormals_to_zero
from apa_deploy.runtimes.ort_session import open_session, session_options

WARM_UP = 3


def main() -> None:
    job = json.loads(sys.argv[1])
    run = RUNTIMES[job["runtime"]](job)
    for _ in range(WARM_UP):
        run()
    print(json.dumps({"memory_mb": _memory()}), flush=True)
    clock = time.process_time if job["clock"] == "process" else time.perf_counter
    for _ in sys.stdin:
        run()
        print(time_ms(run, clock), flush=True)


def _images(job: dict[str, Any]) -> np.ndarray:
    z = np.random.default_rng(0).standard_normal((job["batch"], *job["shape"]))
    return INPUTS[job["inputs"]](z).astype(np.float32)


def _ours(job: dict[str, Any]) -> Callable[[], Any]:
    import apa_deploy

    session = apa_deploy.Session(
        job["path"], threads=job["threads"], layout=job["layout"], flush_subnormals=job["flush"]
    )
    if job["layout"] and session.prepared is None:
        raise SystemExit(f"{job['path']} was not prepared")
    feed = {session.input_names[0]: _images(job)}
    return lambda: session.run(feed)


def _onnxruntime(job: dict[str, Any]) -> Callable[[], Any]:
    options = session_options(job["threads"])
    if job["flush"]:
        set_subnormals_to_zero(options)
    session = open_session(Path(job["path"]), options=options)
    feed = {session.get_inputs()[0].name: _images(job)}
    return lambda: session.run(None, feed)


def _openvino(job: dict[str, Any]) -> Callable[[], Any]:
    import openvino

    options = {"INFERENCE_NUM_THREADS": job["threads"]}
    if job["runtime"] == "openvino":
        options["INFERENCE_PRECISION_HINT"] = "f32"
    request = openvino.Core().compile_model(job["path"], "CPU", options).create_infer_request()
    images = _images(job)
    return lambda: request.infer([images])


def _torch_compile(job: dict[str, Any]) -> Callable[[], Any]:
    import torch

    from benchmarks.cpu_networks import network

    torch.set_num_threads(job["threads"])
    torch._inductor.config.freezing = True
    module, images = torch.compile(network(job["network"])), torch.from_numpy(_images(job))

    def run() -> None:
        with torch.inference_mode():
            module(images)

    return run


def _memory() -> float:
    """Megabytes that are resident now, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# What the images are made of, from standard normal numbers: 0.7 % of the last are subnormal.
INPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda z: z,
    "wide": lambda z: 3 * z,
    "subnormal": lambda z: aglu_float64(3 * z, 1e-4, 1.0),
}
RUNTIMES = {
    "ours": _ours,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino default": _openvino,
    "torch.compile": _torch_compile,
}

if __name__ == "__main__":
    main()
