"""TensorRT's Python API as data: every class, method, argument, property and enumerator, with its annotation.

Two sources. `tensorrt-stubs`: type stubs of the whole of TensorRT 10. pybind11's docstrings: of the lean runtime 11
(running engines) and of TensorRT for RTX (building them), which are of TensorRT 11's time.

    {"version", "classes": {name: {"methods": {name: [[parameter]]}, "properties": {name: annotation}}},
     "enums": {name: {member: value}}, "functions": {name: [[parameter]]}}

A parameter is [name, annotation, optional]; the annotation of a property that cannot be set is null.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

_METHOD = re.compile(r"^    def (\w+)\((.*)\)(?: -> (.*?))?:", re.MULTILINE)
_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\) -> ", re.MULTILINE)
_MEMBER = re.compile(r"^ +(\w+): typing\.ClassVar\[.*?# value = <(\w+)\.\w+: (\d+)>", re.MULTILINE)


def from_stubs(text: str, version: str) -> dict:
    """Of the text of `tensorrt_bindings/tensorrt.pyi`. Some of its lines are no valid Python, hence no parser."""
    pieces = re.split(r"^class (\w+).*:\n", text, flags=re.MULTILINE)
    enums: dict[str, dict[str, int]] = {}
    for member, name, value in _MEMBER.findall(text):
        enums.setdefault(name, {})[member] = int(value)
    classes = dict(zip(pieces[1::2], map(_stub_class, pieces[2::2]), strict=True))
    functions = re.findall(r"^def (\w+)\((.*)\) -> ", text, flags=re.MULTILINE)
    return {
        "version": version,
        "classes": {name: found for name, found in classes.items() if name not in enums},
        "enums": enums,
        "functions": {name: [parameters(given)] for name, given in functions},
    }


def _stub_class(body: str) -> dict:
    properties = dict(re.findall(r"^    (\w+): (?!typing\.ClassVar)(.+?)(?:  #.*)?$", body, flags=re.MULTILINE))
    read_only = re.findall(r"^    @property\n    def (\w+)\(", body, flags=re.MULTILINE)
    methods: dict[str, list] = {}
    for name, given, _ in _METHOD.findall(body):
        if name not in read_only:
            methods.setdefault(name, []).append(parameters(given)[1:])
    return {"methods": methods, "properties": properties | dict.fromkeys(read_only, None)}


def from_module(module) -> dict:
    """Of a compiled pybind11 module."""
    found: dict = {"version": module.__version__, "classes": {}, "enums": {}, "functions": {}}
    for name, value in vars(module).items():
        if not isinstance(value, type):
            continue
        if hasattr(value, "__members__"):
            found["enums"][name] = {member: int(number) for member, number in value.__members__.items()}
        else:
            found["classes"][name] = _compiled_class(value)
    found["enums"]["Severity"] = {member: int(n) for member, n in module.ILogger.Severity.__members__.items()}
    return found


def _compiled_class(cls: type) -> dict:
    methods, properties = {}, {}
    for name, value in vars(cls).items():
        if isinstance(value, property):
            properties[name] = "typing.Any" if value.fset else None
        elif signatures := _SIGNATURE.findall(getattr(value, "__doc__", None) or ""):
            methods[name] = [parameters(given)[1:] for found, given in signatures if found == name]
    return {"methods": methods, "properties": properties}


def parameters(given: str) -> list[list]:
    """`a: int, b: list[str] = []` -> [["a", "int", False], ["b", "list[str]", True]]."""
    parts, depth, part = [], 0, ""
    for letter in given:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and not depth:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [_parameter(one.strip()) for one in [*parts, part] if one.strip()]


def _parameter(text: str) -> list:
    declared, _, default = text.partition(" = ")
    name, _, annotation = declared.partition(":")
    return [name.strip(), annotation.strip() or "typing.Any", bool(default)]


def merged(first: dict, *others: dict) -> dict:
    """What `first` knows, and from the others what it does not."""
    for other in others:
        for kind in ("classes", "enums", "functions"):
            first[kind] = other[kind] | first[kind]
    return first


def main(stubs: str, version: str, *modules: str) -> None:
    """Print the API: of the stubs alone, or of compiled modules completed by them."""
    known = from_stubs(Path(stubs).read_text(encoding="utf-8"), version)
    if modules:
        first, *others = (from_module(importlib.import_module(name)) for name in modules)
        # Only functions: what the compiled modules lack of the classes may be gone.
        known = merged(first, *others, {"classes": {}, "enums": {}, "functions": known["functions"]})
    print(json.dumps(known))


if __name__ == "__main__":
    main(*sys.argv[1:])
