"""What a network of the user's own takes: said by --input or --input-shape, by an example, or by the module itself.

| asked                         | taken                                                                     |
| ----------------------------- | ------------------------------------------------------------------------- |
| `--input ids=16:int64`        | as it says; the name is the forward's argument, a letter an open size     |
| `--example pkg.mod:function`  | names, types and sizes of what it returns, the batch open                 |
| `--input-shape 3x32x32`       | the only input                                                            |
| nothing                       | Lightning's example_input_array, transformers' dummy_inputs, timm's input_size |
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import InputError
from ..tensors.signature import BATCH, Shape, Signature, TensorSpec, image_signature, parse_input
from .factory import call_function

_NESTED = "Give the .pt2 of torch.export.save with --trust-pickle: it takes arguments of any structure."
_LONGER = (4, 16, 64, 256, 1024)
_MOST_TRIED = 2**22  # elements of a sample: what open sizes stand for is found in seconds, whatever their number
_TYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


def signature_of_module(
    module: nn.Module, *, inputs: Sequence[str] = (), example: str | None = None, shape: Shape | None = None
) -> tuple[Signature, frozenset[str]]:
    """The inputs of `module` in the order of its forward, and which of them it is given by name.

    Raises:
        InputError: two options contradict each other, a name is none of the forward's, or one that it needs is
            missing.
    """
    options = (("--input", inputs), ("--example", example), ("--input-shape", shape))
    given = [name for name, value in options if value]
    if len(given) > 1:
        raise InputError(" and ".join(given), "one of them", f"Leave {given[-1]} out.")
    parameters = _tensor_parameters(module)
    if inputs:
        specs = [parse_input(text) for text in inputs]
    elif example:
        specs = _specs_of(call_function(example), parameters, f"--example {example}")
    elif shape is None and (known := _find_example(module)) is not None:
        specs = [known] if isinstance(known, TensorSpec) else _specs_of(known, parameters, "its own example")
    else:
        _refuse_several(module, shape)
        if name := _name_asked_for(module):
            return _order_inputs(module, [replace(image_signature(shape).first, name=name)])
        return with_integers(module, image_signature(shape)), frozenset()
    return _order_inputs(module, specs)


def _tensor_parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):
        return {}


def _required_arguments(module: nn.Module) -> list[str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = _tensor_parameters(module).values()
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in kinds]


def _refuse_several(module: nn.Module, shape: Shape | None) -> None:
    needed = _required_arguments(module)
    if len(needed) > 1:
        saw = f"a network that takes {', '.join(needed)}" + (", and --input-shape for one input" if shape else "")
        raise InputError(saw, "the shape of each", " ".join(f"--input {name}=SHAPE[:dtype]" for name in needed))


def _name_asked_for(module: nn.Module) -> str | None:
    """The first argument of a forward that takes none by position.

    Raises:
        InputError: it has no names either (`**batch`).
    """
    parameters = list(_tensor_parameters(module).values())
    if not parameters or any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters):
        return None
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if not named:
        do = "Give --input NAME=SHAPE[:dtype] for each, with the names that it looks up."
        raise InputError(f"a forward that takes **{parameters[0].name}", "the names of its inputs", do)
    return next((name for name in _required_arguments(module)), named[0])


def _order_inputs(module: nn.Module, specs: Sequence[TensorSpec]) -> tuple[Signature, frozenset[str]]:
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"--input {twice} twice", "each input once", "Leave one out.")
    parameters = _tensor_parameters(module)
    kinds = {p.kind for p in parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:  # the order is all that such a forward knows
        return Signature(tuple(specs)), frozenset()
    unknown = [name for name in names if name not in parameters]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        saw, takes = f"--input {unknown[0]}", ", ".join(parameters) or "nothing"
        raise InputError(saw, f"arguments of its forward: {takes}", "Name the input as the forward does.")
    missing = [name for name in _required_arguments(module) if name not in names]
    if missing:
        do = f"Add --input {missing[0]}=SHAPE[:dtype]."
        raise InputError(f"no --input for {', '.join(missing)}", "a shape for each input that it needs", do)
    order = [*(n for n in parameters if n in names), *unknown]
    by_name = {spec.name: spec for spec in specs}
    positional = list(parameters)[: len(order)]
    keywords = frozenset(
        name for i, name in enumerate(order)
        if positional[i : i + 1] != [name] or parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    )  # fmt: skip
    return Signature(tuple(by_name[name] for name in order)), keywords


def _find_example(module: nn.Module) -> Any:
    """What frameworks keep at a module for this purpose, or None."""
    lightning = getattr(module, "example_input_array", None)
    if isinstance(lightning, Tensor | tuple | list | dict):
        return lightning
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    if isinstance(size, tuple | list) and len(size) == 3:
        first = next(iter(_tensor_parameters(module)), "x")
        return TensorSpec(first, "float32", (BATCH, size[0], "height", "width"), tuple(size))
    if hasattr(module, "config_class"):  # transformers: a property that makes them
        dummy = getattr(module, "dummy_inputs", None)
        return dummy if isinstance(dummy, Mapping) else None
    return None


def _specs_of(example: Any, parameters: Mapping[str, inspect.Parameter], origin: str) -> list[TensorSpec]:
    """Specs of a tensor, of several in order, of a mapping, or of (positional, by name)."""
    pair = isinstance(example, tuple | list) and len(example) == 2 and isinstance(example[1], dict)
    positional, named = example if pair else ((), example) if isinstance(example, Mapping) else (example, {})
    positional = positional if isinstance(positional, tuple | list) else (positional,)
    found = {**dict(zip(_name_positions(parameters, len(positional), origin), positional, strict=True)), **named}
    specs = []
    for name, value in found.items():
        if value is None:
            continue
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            saw = f"{origin}: {name} is a {type(value).__name__}"
            raise InputError(saw, "a tensor for each argument of forward", _NESTED) from error
        dtype = str(tensor.dtype).removeprefix("torch.")
        if not tensor.ndim or dtype not in _TYPES:
            saw = f"{origin}: {name} of shape {tuple(tensor.shape)} and type {dtype}"
            raise InputError(saw, f"tensors with a batch, of {', '.join(_TYPES)}", "Return what forward takes.")
        sizes = tuple(tensor.shape[1:])
        specs.append(TensorSpec(name, "float32" if dtype == "float64" else dtype, (BATCH, *sizes), sizes))
    if not specs:
        raise InputError(f"{origin} without a tensor", "what forward is called with", "Return tensors, or a dict.")
    return specs


def _name_positions(parameters: Mapping[str, inspect.Parameter], count: int, origin: str) -> list[str]:
    """Names of so many arguments by position: those of `*xs` are called xs0, xs1."""
    names = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    if rest is not None:
        names += [f"{rest}{i}" for i in range(count - len(names))]
    if count > len(names):
        saw, wanted = f"{origin}: {count} tensors by position", f"at most {len(names)}, as its forward takes"
        raise InputError(saw, wanted, "Return a dict of argument to tensor.")
    return names[:count]


def with_integers(module: nn.Module, signature: Signature) -> Signature:
    """The signature of a lone input of any rank but an image's, as integers where the module refuses floats."""
    spec = signature.first
    if len(signature.inputs) > 1 or spec.is_image or spec.sample is None:
        return signature
    try:
        with torch.inference_mode():
            module(torch.zeros(spec.shape(2)))
    except (RuntimeError, TypeError, ValueError, IndexError):
        whole = replace(spec, dtype="int64")
        try:
            with torch.inference_mode():
                module(torch.zeros(whole.shape(2), dtype=torch.int64))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return signature
        return Signature((whole,))
    return signature


class _Lookups(TorchFunctionMode):
    """Records every lookup in a table of rows: the indices, and how many rows there are."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("embedding", "embedding_bag") and len(args) > 1:
            indices, table = (args[0], args[1]) if args[1].is_floating_point() else (args[1], args[0])
            self.seen.append((indices.detach(), int(table.shape[0])))
        elif name == "__getitem__" and isinstance(args[1], Tensor) and args[1].dtype in (torch.int64, torch.int32):
            self.seen.append((args[1].detach(), int(args[0].shape[0])))
        elif name == "index_select" and len(args) > 2:
            self.seen.append((args[2].detach(), int(args[0].shape[args[1]])))
        return func(*args, **(kwargs or {}))


def _zeros_and_ones(signature: Signature) -> dict[str, Tensor]:
    """Two samples of each input, of numbers that any table has rows for."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for spec in signature.inputs:
        dtype = getattr(torch, spec.dtype)
        values = torch.rand(spec.shape(2), generator=generator)
        tensors[spec.name] = values if dtype.is_floating_point else (values > 0.5).to(dtype)
    return tensors


def _takes(module: nn.Module, tensors: Mapping[str, Tensor], keywords: frozenset[str]) -> bool:
    named = {name: tensor for name, tensor in tensors.items() if name in keywords}
    try:
        with torch.inference_mode():
            module(*(tensor for name, tensor in tensors.items() if name not in keywords), **named)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return True


def lengthen_open_sizes(module: nn.Module, signature: Signature, keywords: frozenset[str]) -> Signature:
    """Letters of --input stand for a few elements; for more where `module` refuses those, as of a wave."""
    letters = [s for s in signature.inputs if s.sample and any(len(str(dim)) == 1 for dim in _open(s))]
    if not letters or _takes(module, _zeros_and_ones(signature), keywords):
        return signature
    for times in _LONGER:
        longer = Signature(tuple(_lengthen(spec, times) if spec in letters else spec for spec in signature.inputs))
        if any(math.prod(spec.sample or ()) > _MOST_TRIED for spec in longer.inputs):
            break
        if _takes(module, _zeros_and_ones(longer), keywords):
            return longer
    return signature


def _open(spec: TensorSpec) -> list[str]:
    return [dim for dim in (spec.dims or ())[1:] if isinstance(dim, str)]


def _lengthen(spec: TensorSpec, times: int) -> TensorSpec:
    pairs = zip((spec.dims or ())[1:], spec.sample or (), strict=True)
    return replace(spec, sample=tuple(n * times if isinstance(dim, str) else n for dim, n in pairs))


def rows_reached(module: nn.Module, signature: Signature, keywords: frozenset[str]) -> dict[str, int]:
    """Input -> rows of the smallest table that it is an index of; found by a run on zeros and ones."""
    integers = [spec for spec in signature.inputs if spec.dtype.startswith(("int", "uint"))]
    if not integers:
        return {}
    lookups, tensors = _Lookups(), _zeros_and_ones(signature)
    with lookups:
        _takes(module, tensors, keywords)  # what it refuses is said where the outputs are wanted
    rows: dict[str, int] = {}
    for spec in integers:
        own = tensors[spec.name].long().flatten()
        reached = [n for indices, n in lookups.seen if torch.equal(indices.long().flatten(), own)]
        rows |= {spec.name: min(reached)} if reached else {}
    return rows
