"""Files that hold code: pickled modules, Ultralytics' `.pt`, torch.export's `.pt2`. Loading them runs that code.

Only `load(..., trust_pickle=True)` comes here.
"""

from __future__ import annotations

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
    "--trust-pickle: loading this file ran whatever code it holds, with your rights; do so only with files that "
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
    return freeze(remove_compile(module).float())
