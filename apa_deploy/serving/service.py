"""What the server does, apart from how it is asked: HTTP and gRPC both call this."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from .. import __version__
from ..tensors.signature import TensorSpec
from .access import is_loopback
from .budget import Budget
from .classification import best_classes
from .errors import OverloadedError, RequestError, TimedOutError
from .model import Model
from .model_config import config_document
from .offload import LARGE_COUNT
from .options import ServeOptions
from .registry import READY, Registry
from .request import InferReply, InferRequest, WantedOutput
from .shadow import Shadow
from .shared_memory import Regions
from .tensors import bytes_from_array
from .waiting import ClientGoneError, settle

NAME = "apa-serve"
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
_LOAD_PARAMETERS = frozenset({"unload_dependents"})
Document = dict[str, Any]


class Service:
    """The protocol's operations. Replies are plain documents; refusals are `ServingError`."""

    def __init__(self, registry: Registry, options: ServeOptions) -> None:
        self.registry, self.options = registry, options
        self.budget = Budget(options.max_pending)
        self.started = self.draining = False
        self.closing = asyncio.Event()  # nothing new is taken any more
        self.cutting = False  # the time to drain is up: calls are being cut off
        self.accepted = self.answered = 0
        self.shadow: Shadow | None = None
        self.regions = Regions(options.max_request, allowed=is_loopback(options.host))
        self.codes: Counter[tuple[str, str]] = Counter()

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here: not while every model hangs."""
        models = self.registry.list_loaded()
        hangs = bool(models) and not any(model.batcher.ready for model in models)
        return self.started and not self.draining and not hangs

    def server_metadata(self) -> Document:
        more = ["system_shared_memory"] if self.regions.allowed else []
        return {"name": NAME, "version": __version__, "extensions": [*EXTENSIONS, *more]}

    def model_ready(self, name: str, version: str) -> bool:
        """Whether a request for this version would be answered.

        Raises:
            ServingError: it would not.
        """
        return self.registry.get(name, version).batcher.ready and self.ready

    def model_metadata(self, name: str, version: str) -> Document:
        model = self.registry.get(name, version)
        versions = [version] if version else [str(v) for v in self.registry.versions(name)]
        return {
            "name": name,
            "versions": versions,
            "platform": self.model_config(name, version)["platform"],
            "inputs": [_tensor(spec) for spec in model.signature.inputs],
            "outputs": [_tensor(spec) for spec in model.signature.outputs],
        }

    def model_config(self, name: str, version: str) -> Document:
        model = self.registry.get(name, version)
        return config_document(model.artifact.config, model.signature, name, model.artifact.path)

    def statistics(self, name: str, version: str) -> Document:
        """Of one version, of every version of a model (`version` ""), or of everything (`name` "")."""
        if name:
            first = self.registry.get(name, version)
            wanted = [m for m in self.registry.list_loaded() if m.name == name and (not version or m is first)]
        else:
            wanted = self.registry.list_loaded()
        return {"model_stats": [model.statistics.document(model.name, model.version) for model in wanted]}

    def index(self, *, ready: bool) -> list[Document]:
        """The repository's models; only those in service where `ready`."""
        return [row for row in self.registry.index() if row["state"] == READY or not ready]

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load or reload a model from its files, and from nothing else: overrides are refused."""
        _check_load(parameters)
        await self.registry.load(name)

    async def unload(self, name: str, parameters: Mapping[str, Any]) -> None:
        _check_load(parameters)
        await self.registry.unload(name)

    async def infer(
        self, name: str, version: str, request: InferRequest, gone: Callable[[], Awaitable[None]] | None = None
    ) -> InferReply:
        """Answer one inference; `gone` returns once the client has gone."""
        model = self.registry.get(name, version)
        start, outcome = time.perf_counter_ns(), "fail"
        try:
            rows = model.signature.rows(request.inputs)
            wanted = model.signature.choose_outputs(request.outputs, binary=request.binary)
            limit = min(request.timeout or self.options.request_timeout, model.artifact.config.timeout)
            outputs = await settle(model.batcher.submit(request.inputs, rows), limit, gone)
            outcome = "success"
        except OverloadedError:
            outcome = "rejected"
            raise
        except TimedOutError:
            outcome = "timeout"
            raise
        except ClientGoneError:
            outcome = "cancelled"
            raise
        finally:
            model.statistics.add_request(outcome, time.perf_counter_ns() - start)
        if self.shadow:
            self.shadow.offer(model, request.inputs, outputs)
        answers = [(output, await _classify(model, output, outputs[output.name])) for output in wanted]
        for output, array in answers:
            if output.place:
                output.place = self.regions.write(output.place, bytes_from_array(array))
        return InferReply(model.name, str(model.version), request.id, answers)


async def _classify(model: Model, output: WantedOutput, array: np.ndarray) -> np.ndarray:
    """The classes that the output asks for, or the array itself."""
    if not output.classes:
        return array
    names, batched = model.labels.get(output.name, []), bool(model.signature.max_batch)
    if array.size > LARGE_COUNT:  # to sort them takes long
        return await asyncio.to_thread(best_classes, array, output.classes, names, batched=batched)
    return best_classes(array, output.classes, names, batched=batched)


def _tensor(spec: TensorSpec) -> Document:
    return {"name": spec.name, "datatype": spec.datatype.name, "shape": list(spec.declared)}


def _check_load(parameters: Mapping[str, Any]) -> None:
    unknown = sorted(set(parameters) - _LOAD_PARAMETERS)
    if unknown:
        saw = f"parameter {unknown[0][:40]!r} in a load or unload call"
        raise RequestError(saw, "the files of the repository alone", "Change the files, then load without it.")
