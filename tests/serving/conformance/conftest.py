"""The server under test: one that runs already, or apa-serve.

    APA_CONFORMANCE_HTTP=HOST:PORT APA_CONFORMANCE_GRPC=HOST:PORT APA_CONFORMANCE_MODEL=NAME \\
        pytest tests/serving/conformance

APA_CONFORMANCE_ONNX names the model's file: outputs are then held against ONNX Runtime's. The server must allow
load and unload calls and batch dynamically; every input of the model is of a float type.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from endpoint import Endpoint
from serving_models import small_model
from serving_process import ServerProcess


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory):
    if http := os.environ.get("APA_CONFORMANCE_HTTP"):
        onnx = os.environ.get("APA_CONFORMANCE_ONNX")
        model = os.environ["APA_CONFORMANCE_MODEL"]
        yield Endpoint(http, os.environ["APA_CONFORMANCE_GRPC"], model, Path(onnx) if onnx else None)
        return
    folder = tmp_path_factory.mktemp("conformance")
    path = small_model(folder / "act.onnx")
    with ServerProcess(folder, "--max-batch", "8") as server:
        yield Endpoint(server.http, server.grpc, "act", path)
