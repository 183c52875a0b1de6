"""The contract: a class of the stand-in has exactly the methods and attributes of TensorRT's class of its name."""

from __future__ import annotations

import enum
import functools
import json
import os
import re
from pathlib import Path
from typing import Any

API: dict[str, Any] = json.loads(Path(os.environ["STANDIN_API"]).read_text())
FUNCTIONS = API["functions"]
FAULTS = set(os.environ.get("STANDIN_FAULTS", "").split(","))
_CLASSES: dict[str, type] = {}


class ContractError(BaseException):
    """The program under test called TensorRT in a way that the real one does not have. Nothing may catch it."""


@functools.cache
def enums() -> dict[str, Any]:
    """Every enumeration, by name."""
    return {name: enum.IntEnum(name, members) for name, members in API["enums"].items()}


class Checked:
    """Base of the stand-in's classes. What their own code needs lies behind names that begin with `_`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = _known(cls)
        if known is None or cls.__module__.split(".")[0] != "tensorrt":
            return  # a class of the program under test
        _CLASSES[cls.__name__] = cls
        for name, value in list(vars(cls).items()):
            if (name.startswith("_") and name != "__init__") or isinstance(value, type):
                continue
            if isinstance(value, property):
                _must(name in known["properties"], f"{cls.__name__}.{name} is no property of TensorRT's")
            elif callable(value):
                setattr(cls, name, _checked(cls.__name__, name, known["methods"], value))

    def __getattr__(self, name: str) -> Any:
        known = _known(type(self)) or {"methods": {}, "properties": {}}
        exists = name in known["methods"] or name in known["properties"]
        _must(not exists or name.startswith("_"), f"the stand-in's {type(self).__name__} lacks {name}")
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        known = _known(type(self))
        if not name.startswith("_") and known is not None and not _is_users(self):
            _must(name in known["properties"], f"{type(self).__name__} has no attribute {name}")
            wanted = known["properties"][name]
            _must(wanted is not None, f"{type(self).__name__}.{name} cannot be set")
            _must(_fits(value, wanted), f"{type(self).__name__}.{name} = {value!r}; wanted {wanted}")
            record(f"{type(self).__name__}.{name}", value)
        object.__setattr__(self, name, value)


def known_as(name: str, cls: type) -> None:
    """A class that stands for TensorRT's class `name` where that is wanted of an argument."""
    _CLASSES[name] = cls


def checked_function(function: Any) -> Any:
    """A function of the module."""
    return _checked("", function.__name__, FUNCTIONS, function)


def record(what: str, *given: Any) -> None:
    """Write a call to STANDIN_CALLS."""
    if path := os.environ.get("STANDIN_CALLS"):
        with Path(path).open("a") as file:
            file.write(json.dumps([what, *map(_said, given)]) + "\n")


def _checked(owner: str, name: str, methods: dict[str, Any], function: Any) -> Any:
    _must(name in methods or name == "__init__", f"{owner}.{name} is no method of TensorRT's")
    signatures = methods.get(name, [[]])

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        given = arguments[1:] if owner else arguments
        ok = any(_takes(signature, given, named) for signature in signatures)
        _must(ok, f"{owner}.{name}{given}{named or ''}; wanted {signatures}")
        record(f"{owner}.{name}", *given, *named.values())
        return function(*arguments, **named)

    return call


def _takes(signature: list[list[Any]], given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    names = [parameter[0] for parameter in signature]
    if len(given) > len(names) or set(named) - set(names[len(given) :]):
        return False
    values = dict(zip(names, given, strict=False)) | named
    return all(_fits(values[name], wanted) if name in values else optional for name, wanted, optional in signature)


def _fits(value: Any, wanted: str) -> bool:
    wanted = re.sub(r"\b(?:\w+(?:\.|::))+(?=\w)", "", wanted)  # without modules
    if wanted in ("Any", "...", "object", "capsule", "CapsuleType"):
        return value is not None
    if wanted in ("int", "SupportsInt"):
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted in ("str", "bool", "float", "tuple", "list"):
        return isinstance(value, {"str": str, "bool": bool, "float": float, "tuple": tuple, "list": list}[wanted])
    if wanted in ("Buffer", "buffer"):
        return isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "_content")
    if wanted == "Dims":
        return isinstance(value, tuple | list) and all(type(one) is int for one in value)
    if inner := re.fullmatch(r"(?:list|Sequence)\[(.*)\]", wanted):
        return isinstance(value, list | tuple) and all(_fits(one, inner[1]) for one in value)
    if wanted in enums():
        return isinstance(value, enums()[wanted])
    if wanted in API["classes"]:
        return wanted in _CLASSES and isinstance(value, _CLASSES[wanted])
    raise ContractError(f"the stand-in does not know the type {wanted!r}")


def _known(cls: type) -> dict[str, Any] | None:
    return next((API["classes"][base.__name__] for base in cls.__mro__ if base.__name__ in API["classes"]), None)


def _is_users(value: Any) -> bool:
    return type(value).__module__.split(".")[0] != "tensorrt"


def _must(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(f"TensorRT {API['version']}: {message}")


def _said(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    return value if isinstance(value, str | int | float | list | tuple) else type(value).__name__
