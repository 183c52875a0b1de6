"""Networks that the user's own code makes: `package.module:factory`."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from torch import nn

from ..errors import InputError


class FactoryError(InputError):
    """A factory cannot be imported or called, or makes no network. `factory`."""

    def __init__(self, factory: str, saw: str, do: str, option: str = "--model") -> None:
        what = "factory" if option == "--model" else "function"
        super().__init__(f"{option} {factory}: {saw}", f"package.module:{what}, callable without arguments", do)
        self.factory = factory


def call_factory(factory: str) -> nn.Module:
    """The network that `factory`, "package.module:factory", makes.

    Raises:
        FactoryError: it cannot be imported or called, or makes no torch module.
    """
    network = call_function(factory, "--model")
    if not isinstance(network, nn.Module):
        saw = f"it gave a {type(network).__name__}, {name_source(factory)}"
        raise FactoryError(factory, saw, "Return the network, a torch.nn.Module.")
    return network


def call_function(function: str, option: str = "--example") -> Any:
    """What `function`, "package.module:function", returns; `option`: who asked.

    Modules of the current folder are found as well, behind all that are installed: nothing in the folder can take
    the place of a library. No verb looks there for another reason.

    Raises:
        FactoryError: it cannot be imported or called.
    """
    module_name, _, name = function.partition(":")
    finder = _LastFolder(os.getcwd())  # noqa: PTH109 - text, as on sys.path
    earlier = [other for other in sys.meta_path if isinstance(other, _LastFolder) and other != finder]
    sys.meta_path[:] = [*(other for other in sys.meta_path if not isinstance(other, _LastFolder)), finder, *earlier]
    do = "Check the name, and that its package is installed, on PYTHONPATH, or in the current folder."
    try:
        found = getattr(importlib.import_module(module_name), name)
        do = "It is called without arguments, on the CPU; --debug shows where it stopped."
        return found()
    except (Exception, SystemExit) as error:  # whatever the user's code does, a script's sys.exit among it
        source = getattr(sys.modules.get(module_name), "__file__", None)
        taken = f" (taken from {source})" if source else ""
        reason = (str(error).splitlines() or [""])[0]
        if not isinstance(error, ImportError | AttributeError | TypeError | ValueError):
            reason = f"it raised {type(error).__name__}: {reason}"
        raise FactoryError(function, f"{reason}{taken}", do, option) from error


@dataclass(frozen=True)
class _LastFolder(MetaPathFinder):
    """Finds in `folder` what nothing else finds. As an entry of `sys.path` it would stand before packages that have
    no `__init__`, and before modules that the standard library has on other systems."""

    folder: str

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if path is not None or name in sys.stdlib_module_names:
            return None
        return PathFinder.find_spec(name, [self.folder])


def name_source(factory: str) -> str:
    """One sentence: which file `factory`, called already, was taken from."""
    source = getattr(sys.modules[factory.partition(":")[0]], "__file__", None)
    return f"--model {factory} was taken from {source}"
