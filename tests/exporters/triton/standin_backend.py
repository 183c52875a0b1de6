"""Stands in for a backend that this machine lacks: takes its models' configuration as it is, runs ONNX Runtime.

Installed as backends/tensorrt/model.py, a `model.plan` of the tests holds ONNX behind an engine's tag; as
backends/onnxruntime/model.py it does what the real one does with `model_operations`: gives the name to the loader
unchanged.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

TAG = b"ftrt"  # of an engine
FILES = {"tensorrt_plan": "model.plan", "onnxruntime_onnx": "model.onnx"}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        for library in config.get("model_operations", {}).get("op_library_filename", []):
            options.register_custom_ops_library(library)
        path = Path(args["model_repository"], args["model_version"], FILES[config["platform"]])
        self.session = onnxruntime.InferenceSession(
            path.read_bytes().removeprefix(TAG), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        feed = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        try:
            values = self.session.run(self.outputs, feed)
        except Exception as error:  # noqa: BLE001  every request wants an answer
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        tensors = [triton.Tensor(n, np.ascontiguousarray(v)) for n, v in zip(self.outputs, values, strict=True)]
        return triton.InferenceResponse(tensors)
