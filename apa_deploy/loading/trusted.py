"""Files that hold code: pickled modules, Ultralytics' `.pt`, torch.export's `.pt2`. Loading them runs that code.

Only `load(..., trust_pickle=True)` comes here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import MissingError
from ..modules import freeze
from ..runtimes.artifacts import is_program
from .checkpoint import CheckpointError

NOTICE = (
    "--trust-pickle: loading this file executed the code in it, with your rights; do so only with files that "
    "you or people you trust made"
)
_KEYS = {"model": ("model", "ema"), "ema": ("ema", "model_ema")}


def read_trusted(path: Path, weights: str = "model") -> Any:
    """The module in a file, the program in a `.pt2`, or the file's content where it holds neither.

    Raises:
        CheckpointError: the file cannot be read.
        MissingError: it needs a package that is not installed.
    """
    try:
        with warnings.catch_warnings():  # that torch.load opens TorchScript as well
            warnings.simplefilter("ignore")
            content = torch.export.load(path) if is_program(path) else torch.load(path, "cpu", weights_only=False)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        wanted = f"the package {package}, whose classes it pickles"
        raise MissingError(f"{path.name}: {error}", wanted, f"Run: pip install {package}") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        saw = f"{type(error).__name__} while loading ({reason})"
        raise CheckpointError(path, saw, "a file that torch.load reads", "Check the file.") from error
    if isinstance(content, torch.export.ExportedProgram):
        return content
    module = _module_in(content, _KEYS[weights])
    return content if module is None else module


def _module_in(content: Any, keys: tuple[str, ...]) -> nn.Module | None:
    """A module found by its type: the content itself, or under the usual keys, or under any other."""
    if isinstance(content, nn.Module):
        return content
    if not isinstance(content, Mapping):
        return None
    values = [*(content.get(key) for key in keys), *content.values()]
    return next((value for value in values if isinstance(value, nn.Module)), None)


def remove_compile(module: nn.Module) -> nn.Module:
    """`module` without torch.compile around it or its parts, in place: what it compiles is what is exported."""
    for parent in list(module.modules()):
        if isinstance(parent, torch.jit.ScriptModule):
            continue
        parent._compiled_call_impl = None
        for name, child in list(parent._modules.items()):
            if child is not None:
                parent._modules[name] = _inner(child)
    return _inner(module)


def _inner(module: nn.Module) -> nn.Module:
    inner = getattr(module, "_orig_mod", None) if type(module).__name__ == "OptimizedModule" else None
    return inner if isinstance(inner, nn.Module) else module


def ready(module: nn.Module) -> nn.Module:
    """`module` in float32 and eval mode."""
    return freeze(remove_scripts(remove_compile(module).float()))


class _Interpreted(nn.Module):
    """A scripted module as its graph, whose tensors are inputs, so that torch.export and hooks can follow it."""

    def __init__(self, scripted: torch.jit.ScriptModule) -> None:
        super().__init__()
        jit: Any = torch._C
        frozen = jit._freeze_module(scripted._c, [], True, True)  # keeps the parameters, inlines all else
        graph, tensors = jit._jit_pass_lower_graph(frozen.forward.graph, frozen)
        for i, tensor in enumerate(tensors):
            self.register_buffer(f"value{i}", tensor.detach())
        self._run = lambda values: jit._jit_interpret_graph(graph, values)

    def forward(self, *positional: Any) -> Any:
        return self._run((*positional, *self.buffers()))


def remove_scripts(module: nn.Module) -> nn.Module:
    """`module` with each part that torch.jit scripted or traced run by its graph, in eval mode."""
    if isinstance(module, torch.jit.ScriptModule):
        return _Interpreted(module.eval())
    for name, child in module.named_children():
        setattr(module, name, remove_scripts(child))
    return module
