"""A real tritonserver, of the `nvidia-pytriton` wheel, serving an ONNX file through its Python backend.

The wheel wants an environment of its own, with numpy below 2:

    python3.11 -m venv triton && triton/bin/pip install 'numpy<2' nvidia-pytriton==0.7.0 onnxruntime
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

READY = 60  # seconds

# Requests that the server's batcher hands over together run together, as they do in apa-serve.
_MODEL = """\
import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        library = config["parameters"]["library"]["string_value"]
        if library:
            options.register_custom_ops_library(library)
        path = config["parameters"]["onnx"]["string_value"]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def execute(self, requests):
        arrays = [[utils.get_input_tensor_by_name(r, n).as_numpy() for n in self.inputs] for r in requests]
        feed = {n: np.concatenate([a[i] for a in arrays]) for i, n in enumerate(self.inputs)}
        values = self.session.run(self.outputs, feed)
        ends = np.cumsum([len(a[0]) for a in arrays])
        replies = []
        for end, a in zip(ends, arrays):
            rows = [utils.Tensor(n, v[end - len(a[0]) : end]) for n, v in zip(self.outputs, values)]
            replies.append(utils.InferenceResponse(rows))
        return replies
"""


class TritonServer:
    """The server, ready; a context that ends it. Ports: `http`, `grpc`, and one beyond for metrics."""

    def __init__(self, venv: Path, folder: Path, port: int) -> None:
        self.http, self.grpc = f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"
        self._venv, self._folder, self._port = venv.absolute(), folder.absolute(), port

    def add(self, onnx: Path, spec: dict, *, max_batch: int, threads: int, library: Path | None) -> None:
        """Put a model into the repository; `spec`: its metadata, as the protocol has it."""
        folder = self._folder / "models" / onnx.stem
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.py").write_text(_MODEL)
        parameters = {"onnx": onnx.absolute(), "threads": threads, "library": library.absolute() if library else ""}
        (folder / "config.pbtxt").write_text(_config(onnx.stem, spec, max_batch, parameters))

    def __enter__(self) -> TritonServer:
        purelib = self._ask("import sysconfig; print(sysconfig.get_path('purelib'))")
        library = self._ask("import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
        backends = self._backends(Path(purelib) / "pytriton" / "tritonserver")
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment["LD_LIBRARY_PATH"] = f"{purelib}/nvidia_pytriton.libs:{library}"
        environment["PATH"] = f"{self._venv}/bin:{os.environ['PATH']}"
        address = [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")]
        ports = [f"--{kind}-port={self._port + n}" for n, kind in enumerate(("http", "grpc", "metrics"))]
        binary = Path(purelib) / "pytriton" / "tritonserver" / "bin" / "tritonserver"
        folders = [f"--model-repository={self._folder}/models", f"--backend-directory={backends}"]
        with (self._folder / "log").open("wb") as log:
            command = [str(binary), *folders, *address, *ports]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._wait_until_ready()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(READY)

    def _ask(self, code: str) -> str:
        command = [str(self._venv / "bin" / "python"), "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _backends(self, installed: Path) -> Path:
        """The wheel keeps the parts of the Python backend apart; the server wants them in one folder."""
        version = self._ask("import sys; print('%d.%d' % sys.version_info[:2])")
        folder = self._folder / "backends" / "python"
        folder.mkdir(parents=True)
        parts = [part for part in (installed / "backends" / "python").iterdir() if part.is_file()]
        for part in (*parts, installed / "python_backend_stubs" / version / "triton_python_backend_stub"):
            shutil.copy2(part, folder)
        libraries = self._folder / "nvidia_pytriton.libs"  # the backend looks for them beside its own folder
        libraries.symlink_to(installed.parents[1] / "nvidia_pytriton.libs")
        return folder.parent

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + READY
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"tritonserver did not start: {(self._folder / 'log').read_text()[-2000:]}")


def _config(name: str, spec: dict, max_batch: int, parameters: dict) -> str:
    lines = [f'name: "{name}" backend: "python" max_batch_size: {max_batch} dynamic_batching {{}}']
    lines.append("instance_group [ { kind: KIND_CPU count: 1 } ]")
    for side, tensors in (("input", spec["inputs"]), ("output", spec["outputs"])):
        for t in tensors:
            dims = json.dumps([int(n) for n in t["shape"][1:]])
            lines.append(f'{side} [ {{ name: "{t["name"]}" data_type: TYPE_{t["datatype"]} dims: {dims} }} ]')
    for key, value in parameters.items():
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}')
    return "\n".join(lines) + "\n"
