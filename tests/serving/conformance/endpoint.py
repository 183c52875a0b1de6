"""A server seen through the stock clients, whichever server it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import triton_to_np_dtype

from apa_deploy import Session

CLIENTS: dict[str, ModuleType] = {
    "http": tritonclient.http,
    "grpc": tritonclient.grpc,
    "http.aio": tritonclient.http.aio,
    "grpc.aio": tritonclient.grpc.aio,
}
OPEN_DIMENSION = 8  # for dimensions that the model leaves open, apart from the batch


@dataclass
class Endpoint:
    """Addresses, the model to ask for, and its file where it is known."""

    http: str
    grpc: str
    model: str
    onnx: Path | None = None

    def url(self, kind: str) -> str:
        return self.http if kind.startswith("http") else self.grpc

    def call(self, kind: str, method: str, *arguments: Any, **options: Any) -> Any:
        """One call through a new client of this kind; a message becomes a dictionary."""
        if kind.endswith("aio"):
            result = asyncio.run(self._awaited(kind, method, arguments, options))
        else:
            client = CLIENTS[kind].InferenceServerClient(self.url(kind))
            result = getattr(client, method)(*arguments, **options)
            client.close()
        return MessageToDict(result, preserving_proto_field_name=True) if hasattr(result, "DESCRIPTOR") else result

    async def _awaited(self, kind: str, method: str, arguments: Any, options: Any) -> Any:
        async with CLIENTS[kind].InferenceServerClient(self.url(kind)) as client:
            return await getattr(client, method)(*arguments, **options)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return self.call("http", "get_model_metadata", self.model)

    @cached_property
    def max_batch(self) -> int:
        return int(self.call("http", "get_model_config", self.model)["max_batch_size"])

    @cached_property
    def output_names(self) -> list[str]:
        return [output["name"] for output in self.metadata["outputs"]]

    def feed(self, rows: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
        """Normal values for every input."""
        generator = np.random.default_rng(seed)
        return {
            tensor["name"]: generator.standard_normal(_sizes(tensor["shape"], rows)).astype(
                triton_to_np_dtype(tensor["datatype"])
            )
            for tensor in self.metadata["inputs"]
        }

    def inputs(self, kind: str, feed: dict[str, np.ndarray], **options: Any) -> list[Any]:
        """The feed as the client wants it."""
        types = {tensor["name"]: tensor["datatype"] for tensor in self.metadata["inputs"]}
        made = []
        for name, array in feed.items():
            tensor = CLIENTS[kind].InferInput(name, list(array.shape), types[name])
            tensor.set_data_from_numpy(array, **options)
            made.append(tensor)
        return made

    def infer(self, kind: str, feed: dict[str, np.ndarray], **options: Any) -> dict[str, np.ndarray]:
        """Every output of one inference."""
        result = self.call(kind, "infer", self.model, self.inputs(kind, feed), **options)
        return {name: result.as_numpy(name) for name in self.output_names}

    def expected(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What ONNX Runtime gives for the model's file; where that is not known, what the server gave alone."""
        if self.onnx is None:
            return self.infer("grpc", feed)
        with Session(self.onnx, threads=1) as session:
            return session.run(feed)


def assert_same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Equal up to the rounding of another batch size or thread count: 16 eps of the largest value.

    Sums are formed in another order then; 16 covers the growth over the layers of a small network.
    """
    for name, array in wanted.items():
        eps = np.finfo(array.dtype).eps
        scale = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(got[name], array, rtol=0, atol=16 * eps * scale, err_msg=name)


def _sizes(shape: list[Any], rows: int) -> list[int]:
    dims = [int(n) for n in shape]
    return [rows if at == 0 and n == -1 else OPEN_DIMENSION if n == -1 else n for at, n in enumerate(dims)]
