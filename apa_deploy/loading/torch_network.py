"""A torch module as a `Network`: the module in float64 is the truth, whatever was made of it."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..graph.sites import ActivationSite
from ..network import FLOAT32, TRUTH, Curve, Exchange, Metadata, Network, Trace, equal_but_rounding
from ..progress import notice
from ..replace import find_activations
from ..tensors.inputs import seeded_feeds
from ..tensors.signature import Feed, Signature
from .torch_storage import TORCH_TYPE, round_to, store_in
from .torch_trace import trace_module

# What torch and people's forward methods raise where an input does not fit.
_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError)
_TYPES = re.compile(r"same dtype|scalar type|input type", re.IGNORECASE)  # they compute in two number types
_INTEGERS = re.compile(r"\b(Long|Int|Short|Char|Byte|Bool)\b")
_TRIES = 8  # runs of a network that draws numbers: what is seldom dropped shows in one of them


class TorchNetwork(Network):
    """`module` in eval mode, float32, called with the inputs of `signature` in order; `keywords` by name."""

    def __init__(
        self, module: nn.Module, signature: Signature, metadata: Metadata, keywords: frozenset[str] = frozenset()
    ) -> None:
        self._module, self.signature, self.metadata, self.keywords = module, signature, metadata, keywords
        self._curves: Mapping[str, Curve] = {}  # of activations found in the trace alone

    @property
    def module(self) -> nn.Module:
        """The torch module, which callers may look at and not change."""
        return self._module

    def outputs(self, feed: Feed, dtype: str = TRUTH, exchange: Exchange | None = None) -> Feed:
        module, element = self.evaluation(dtype), torch.float32 if dtype == FLOAT32 else torch.float64
        positional, named = self.arguments(feed, element)
        held = exchange.paths - self._curves.keys() if exchange else frozenset()
        hooks = _hook(module, exchange, held, TORCH_TYPE.get(dtype)) if exchange else []
        try:
            with torch.inference_mode():
                answer = module(*positional, **named)
        except _REFUSALS as error:
            raise self.refuse(feed, error) from error
        finally:
            for hook in hooks:
                hook.remove()
        return {name: as_array(value) for name, value in self.name_outputs(answer).items()}

    def arguments(self, feed: Feed, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """What the module is called with: by position, in the signature's order, and by name; floats in `dtype`."""
        tensors = {spec.name: cast_floats(feed[spec.name], dtype) for spec in self.signature.inputs}
        named = {name: tensor for name, tensor in tensors.items() if name in self.keywords}
        return tuple(tensor for name, tensor in tensors.items() if name not in named), named

    def name_outputs(self, answer: Any) -> dict[str, Tensor]:
        """The tensors in an answer of any structure, by their names."""
        found = dict(flatten_outputs(answer))
        if not found:
            saw = f"{self.metadata.architecture} returns no tensor, but a {type(answer).__name__}"
            raise InputError(saw, "a network that returns one or more", "Return the outputs from forward.")
        names = self.metadata.output_names or names_from_paths(list(found))
        return dict(zip(names, found.values(), strict=True))

    def refuse(self, feed: Feed, error: Exception) -> InputError:
        """The error of a network that `feed` does not go with."""
        shapes = ", ".join(f"{name} of shape {array.shape}" for name, array in feed.items())
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        saw, name = f"{shapes}: {reason}", self.metadata.architecture
        if _TYPES.search(reason) and not _INTEGERS.search(reason):
            do = "Cast to the type of a weight in forward, x.to(self.layer.weight.dtype), not to a fixed one."
            return InputError(saw, f"one number type: {name} is run in float32 and in float64", do)
        do = "Give a sample's shape with --input-shape, or shape and type with --input NAME=SHAPE:DTYPE."
        return InputError(saw, f"inputs that {name} takes", do)

    def find_randomness(self, feed: Feed) -> tuple[str, ...]:
        """Modules by path, found by their mode, or because torch's generator went on while they ran."""
        training = [path for path, part in self._module.named_modules() if _is_training(part)]
        if training:
            return tuple(training)
        drawing = _Drawing(self._module)
        first = drawing.run(lambda: self.outputs(feed, FLOAT32))
        if not drawing.paths:
            return super().find_randomness(feed)
        # numbers may be drawn and not be used: only a difference counts
        others = (self.outputs(feed, FLOAT32) for _ in range(_TRIES))
        changed = any(not equal_but_rounding(first[name], other[name]) for other in others for name in first)
        return tuple(drawing.paths) if changed else ()

    def evaluation(self, dtype: str) -> nn.Module:
        """The module that computes in `dtype`, one of `Network.outputs`; not to be changed."""
        if dtype == FLOAT32:
            return self._module
        if dtype == TRUTH:
            return self._double
        if dtype not in self._stored:
            paths = {site.path for site in self.activations}
            self._stored[dtype] = store_in(self._module, dtype, paths)
        return self._stored[dtype]

    @cached_property
    def _double(self) -> nn.Module:
        return copy.deepcopy(self._module).double()

    @cached_property
    def _stored(self) -> dict[str, nn.Module]:
        return {}

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs; see `Network.output_names`."""
        if self.metadata.output_names:
            return self.metadata.output_names
        batch = self.signature.first.fixed_batch or 2
        return tuple(self.outputs(seeded_feeds(self.signature, batch)[0], FLOAT32))

    @cached_property
    def activations(self) -> tuple[ActivationSite, ...]:
        """Found by running each candidate module; see `replace`."""
        return find_activations(self._module)

    @cached_property
    def learned(self) -> tuple[ActivationSite, ...]:
        """See `Network.learned`; upstream's networks have modules for all of them, which saves the trace.

        Raises:
            InputError: no module is one, and the trace, which would tell, cannot be made.
        """
        if self.metadata.spec:
            return self.activations
        try:
            return self.trace().activations
        except InputError as error:
            if not self.activations:
                raise
            notice(f"looked for activations in modules alone, not in functions: {error.saw}")
            return self.activations

    def curve(self, path: str) -> Curve | None:
        if path in self._curves:
            return self._curves[path]
        parts = dict(self._double.named_modules())
        if path not in parts:
            return None

        def evaluate(z: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return as_array(parts[path](torch.from_numpy(np.asarray(z, np.float64))))

        return evaluate

    def trace(self, opset: int = 18, batch: int | None = None) -> Trace:
        def flatten(answer: Any) -> tuple[Tensor, ...]:
            return tuple(value for _, value in flatten_outputs(answer))

        traced = trace_module(self, partial(self.arguments, dtype=torch.float64), flatten, opset, batch)
        self._curves = traced.curves
        return traced

    def wrap(self, options: str, wrapper: Callable[[nn.Module], nn.Module], signature: Signature) -> TorchNetwork:
        return TorchNetwork(wrapper(self._module), signature, self.metadata, self.keywords)

    def with_metadata(self, metadata: Metadata) -> TorchNetwork:
        """The same module; what was named after the old description is found anew."""
        return TorchNetwork(self._module, self.signature, metadata, self.keywords)


def _is_training(part: nn.Module) -> bool:
    """A dropout that drops, a batch norm that uses the batch's own statistics."""
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return part.training or part.running_mean is None
    return isinstance(part, nn.modules.dropout._DropoutNd) and part.training and part.p > 0


class _Drawing:
    """Which modules draw random numbers of torch: the innermost ones. `paths`."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._states = module, dict[str, Tensor]()
        self.paths: list[str] = []

    def run(self, action: Callable[[], Feed]) -> Feed:
        hooks: list[Any] = []
        for path, part in self._module.named_modules():
            hooks.append(part.register_forward_pre_hook(lambda *_, p=path: self._enter(p)))
            hooks.append(part.register_forward_hook(lambda *_, p=path: self._leave(p)))
        try:
            return action()
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, path: str) -> None:
        self._states[path] = torch.get_rng_state()

    def _leave(self, path: str) -> None:
        name = path or type(self._module).__name__
        inside = any(one.startswith(f"{path}." if path else "") for one in self.paths)
        if not inside and name not in self.paths and not torch.equal(self._states[path], torch.get_rng_state()):
            self.paths.append(name)


def _hook(module: nn.Module, exchange: Exchange, paths: frozenset[str], element: torch.dtype | None) -> list[Any]:
    """Stop at the modules at `paths`; what it puts back is stored in `element` where one is given."""
    hooks: list[Any] = []
    for path in paths:
        visit = _Visit(path, exchange, element)
        part = module.get_submodule(path)
        hooks += [part.register_forward_pre_hook(visit.arrive), part.register_forward_hook(visit.leave)]
    return hooks


class _Visit:
    """One module that may be called several times."""

    def __init__(self, path: str, exchange: Exchange, element: torch.dtype | None) -> None:
        self._path, self._exchange, self._element, self._name = path, exchange, element, path

    def arrive(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        self._name = self._exchange.next_use(self._path)
        return (self._put_back(inputs[0], self._exchange.arrive), *inputs[1:])

    def leave(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return self._put_back(output, self._exchange.leave)

    def _put_back(self, tensor: Tensor, change: Callable[[str, np.ndarray], np.ndarray]) -> Tensor:
        before = tensor.numpy()
        after = change(self._name, before)
        if after is before:
            return tensor
        new = torch.from_numpy(np.ascontiguousarray(after))
        return (round_to(new, self._element) if self._element else new).to(tensor.dtype)


def flatten_outputs(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in the order of torch.export, each with its keys and positions joined by dots; None is left out."""
    if value is None:
        return
    if isinstance(value, Tensor):
        _refuse_unusual(value, path)
        yield path, value
        return
    if isinstance(value, bool | int | float):
        yield path, torch.tensor(value)
        return
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    elif dataclasses.is_dataclass(value):
        items = [(one.name, getattr(value, one.name)) for one in dataclasses.fields(value)]
    else:
        saw = f"an output of type {type(value).__name__}"
        raise InputError(saw, "tensors, and dicts, lists, tuples or dataclasses of them", "Wrap the network.")
    for key, one in items:
        yield from flatten_outputs(one, f"{path}.{key}" if path else str(key))


def _refuse_unusual(value: Tensor, path: str) -> None:
    """Complex numbers, sparse and nested tensors: ONNX has none of them."""
    if value.is_complex():
        kind, do = "complex numbers", "Return torch.view_as_real(y), or its absolute value, from forward."
    elif value.is_nested or value.layout is not torch.strided:
        do = "Return y.to_dense(), or torch.nested.to_padded_tensor(y, 0.0), from forward."
        kind = "a nested tensor" if value.is_nested else f"a {str(value.layout).removeprefix('torch.')} tensor"
    else:
        return
    raise InputError(f"output {path}: {kind}" if path else f"an output of {kind}", "real, dense tensors", do)


def names_from_paths(paths: list[str]) -> tuple[str, ...]:
    """A lone output is the logits; a bare position gets a word before it."""
    if len(paths) == 1:
        return ("logits",)
    return tuple(f"output_{path}" if path[:1].isdigit() else path for path in paths)


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor for numpy, which has no bfloat16: float32 holds it exactly."""
    tensor = tensor.detach()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def cast_floats(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """`array` as a tensor, in `dtype` if it is floating: pixels stay pixels."""
    tensor = torch.from_numpy(np.ascontiguousarray(array) if array.ndim else array)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
