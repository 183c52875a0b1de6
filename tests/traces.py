"""A trace by torch takes seconds, and many tests export the same small network: each is traced once a worker."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import io
import pickle
import pkgutil
import sys

import onnx
import torch

from apa_deploy import graph
from apa_deploy.loading.torch_network import TorchNetwork

# A test that plants a fault in one of these must see its own trace.
TRACING = ("loading.torch_network", "loading.torch_trace", "replace", "modules", "functional", "maths", "graph.")


class _Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, torch.Tensor):
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest()
        return None


@functools.cache
def _import_graph() -> None:
    """What is imported between two traces would make the second one look like another."""
    for module in pkgutil.walk_packages(graph.__path__, f"{graph.__name__}."):
        importlib.import_module(module.name)


def _key(network: TorchNetwork, *arguments: object) -> bytes | None:
    """What a trace depends on, and the functions that make it; None where that cannot be told."""
    _import_graph()
    stream = io.BytesIO()
    named = network.output_names, network.keywords
    try:
        _Pickler(stream).dump((network.module, network.signature, *named, *arguments))
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):  # a class inside a function
        return None
    code = [torch.onnx.export]
    for name, module in sorted(sys.modules.items()):
        if name.startswith(tuple(f"apa_deploy.{part}" for part in TRACING)):
            code += [value for value in vars(module).values() if callable(value)]
    stream.write(repr([id(one) for one in code]).encode())
    return hashlib.sha256(stream.getvalue()).digest()


def remember_traces(trace):
    """`TorchNetwork.trace`, which makes each trace once."""
    known = {}

    def trace_once(self, opset=18, batch=None):
        key = _key(self, opset, batch)
        if key is None:
            return trace(self, opset, batch)
        if key not in known:
            made = trace(self, opset, batch)
            known[key] = dataclasses.replace(made, proto=made.proto.SerializeToString())
        self._curves = known[key].curves
        return dataclasses.replace(known[key], proto=onnx.ModelProto.FromString(known[key].proto))

    return trace_once
