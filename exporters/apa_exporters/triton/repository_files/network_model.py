"""Triton's Python backend: an exported ONNX file on ONNX Runtime's CPU provider, requests joined into one run."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """Needs numpy and onnxruntime in the server's Python."""

    def initialize(self, args: dict) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        folder = Path(args["model_repository"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["intra_op_thread_count"])
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # subnormal numbers are slow
        if library := parameters.get("op_library_filename"):
            options.register_custom_ops_library(str(folder / library))
        options.add_session_config_entry(*parameters["session_config_entry"].split("="))
        path = folder / args["model_version"] / parameters["artifact"]
        without = parameters["disabled_optimizers"].split()
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=without
        )
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batches = config["max_batch_size"] > 0

    def execute(self, requests: list) -> list:
        feeds = [self._feed(request) for request in requests]
        if not self.batches or len({_shape(feed) for feed in feeds}) > 1:
            return [response for feed in feeds for response in self._answers([feed])]
        return self._answers(feeds)

    def _feed(self, request: object) -> dict:
        return {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}

    def _answers(self, feeds: list) -> list:
        """One execution for all of them; a failure is the answer of each."""
        joined = (
            {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
            if self.batches
            else feeds[0]
        )
        try:
            values = self.session.run(self.outputs, joined)
        except Exception as error:  # noqa: BLE001  the server must answer every request
            return [triton.InferenceResponse(error=triton.TritonError(str(error))) for _ in feeds]
        if not self.batches:
            return [self._response(values)]
        ends = np.cumsum([len(feed[self.inputs[0]]) for feed in feeds])[:-1]
        parts = [np.split(value, ends) for value in values]
        return [self._response([part[at] for part in parts]) for at in range(len(feeds))]

    def _response(self, values: list) -> object:
        return triton.InferenceResponse([triton.Tensor(*pair) for pair in zip(self.outputs, values, strict=True)])


def _shape(feed: dict) -> tuple:
    return tuple(array.shape[1:] for array in feed.values())
