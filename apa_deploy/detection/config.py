"""An mmengine config, read as data: parsed, never executed.

    _base_ = "../_base_/mask_rcnn.py"            what a config may say: literals, dict(), list(), tuple(), names set
    model = dict(roi_head=dict(_delete_=True))   before, {{_base_.name}}, + of two values, - of a number

Everything else (imports, functions, calls) stays unread. It costs nothing until somebody asks for the value: a
config may import what it likes for its training.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import SourceError, read_bytes

Config = dict[str, Any]
_MOST_BYTES = 1 << 20
_MOST_BASES = 32
_MOST_VALUES = 200_000
_DO = "Write the flat text of the config (mmengine's cfg.pretty_text) into a file and give that with --config."


class DetectorConfigError(InputError):
    """A config cannot be read. `name`: of the file, or of the place in the checkpoint."""

    def __init__(self, name: str, saw: str, wanted: str, do: str = _DO) -> None:
        super().__init__(f"{name}: {saw}", wanted, do)
        self.name = name


@dataclass(frozen=True)
class Unread:
    """An expression that only running the config would answer: its text and line."""

    text: str
    line: int


def read_detector_config(path: Path) -> Config:
    """The values of a config file, its bases merged as mmengine does.

    Bases lie in the file's folder or below; in a tree with a folder named `configs`, anywhere in that.

    Raises:
        DetectorConfigError: no readable Python, or a base that is missing, in a circle or outside the folder.
    """
    path = path.resolve()
    folder = next((parent for parent in path.parents if parent.name == "configs"), path.parent)
    return _read(path, folder, ())


def parse_config(text: str, name: str) -> Config:
    """The values in a config's text as a checkpoint keeps it, which has no bases.

    Raises:
        DetectorConfigError: it is no Python, or names a base.
    """
    if len(text) > _MOST_BYTES:
        raise DetectorConfigError(name, f"{len(text)} characters", f"a config of at most {_MOST_BYTES}")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DetectorConfigError(
            name, f"not readable as a config ({error})"[:160], "Python assignments"
        ) from error
    return _Reader({}, name).read(tree)


def value_at(config: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value under a dotted `path` such as "model.roi_head.0.type"; `default` where there is none.

    Raises:
        DetectorConfigError: an expression there was not read, or a single value stands where it should lie in.
    """
    found: Any = config
    for part in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, (list, tuple)) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, (str, int, float)):
            saw = f"{found!r} where {path} stands"[:160]
            do = "Correct it in a file for --config."
            raise DetectorConfigError("config", saw, f"dict(...) with {part} in it", do)
        else:
            return default
        if isinstance(found, Unread):
            raise DetectorConfigError(
                f"config, line {found.line}", f"{path} = {found.text[:80]}", "a literal value"
            )
    return default if found is None else found


def _read(path: Path, folder: Path, above: tuple[Path, ...]) -> Config:
    if path in above or len(above) > _MOST_BASES:
        raise DetectorConfigError(path.name, "bases in a circle", "a chain of bases that ends")
    if not path.is_relative_to(folder):
        raise DetectorConfigError(
            path.name, f"a base outside {folder.name or folder}", "bases within the config's folder"
        )
    try:
        text = read_bytes(path, _MOST_BYTES).decode()
    except (SourceError, UnicodeDecodeError) as error:
        saw = error.reason if isinstance(error, SourceError) else "no text"
        raise DetectorConfigError(path.name, saw, "a readable config", "Check the path.") from error
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DetectorConfigError(
            path.name, f"not readable as a config ({error})"[:160], "Python assignments"
        ) from error
    base: Config = {}
    for name in _bases(tree, path.name):
        base = _merge(base, _read((path.parent / name).resolve(), folder, (*above, path)))
    return _Reader(base, path.name).read(tree)


def _bases(tree: ast.Module, name: str) -> list[str]:
    for statement in tree.body:
        if isinstance(statement, ast.With):
            raise DetectorConfigError(name, "a config of Python imports (read_base)", "_base_ with file names")
        if isinstance(statement, ast.Assign) and _target(statement) == "_base_":
            found = _Reader({}, name).value(statement.value)
            found = [found] if isinstance(found, str) else found
            if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) for one in found):
                raise DetectorConfigError(name, f"_base_ = {ast.unparse(statement.value)[:80]}", "names of files")
            return list(found)
    return []


def _target(statement: ast.Assign) -> str:
    first = statement.targets[0]
    return first.id if isinstance(first, ast.Name) else ""


class _Reader:
    """One file's statements over the values of its bases."""

    def __init__(self, base: Config, name: str) -> None:
        self._base, self._name = base, name
        self._own: Config = {}

    def read(self, tree: ast.Module) -> Config:
        try:
            for statement in tree.body:
                if isinstance(statement, ast.Assign) and (name := _target(statement)):
                    value = self.value(statement.value)
                    small = _is_small(value)  # names that double one another would fill the memory
                    self._own[name] = value if small else Unread(f"{name} of many values", statement.lineno)
            named_base = self._own.pop("_base_", None)
            if named_base and not self._base:
                raise DetectorConfigError(self._name, f"_base_ = {named_base!r}"[:80], "a config without bases")
            return _merge(self._base, self._own)
        except RecursionError as error:
            raise DetectorConfigError(self._name, "values nested too deep", "a flat config") from error

    def value(self, node: ast.expr) -> Any:
        """What an expression says; `Unread` where it would have to be run."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.List(elts=items):
                return [self.value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.Dict(keys=keys, values=values):
                return self._dict(list(keys), values)
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words):
                return self._dict([ast.Constant(w.arg) if w.arg else None for w in words], [w.value for w in words])
            case ast.Call(func=ast.Name(id="list" | "tuple" as kind), args=[only], keywords=[]):
                found = self.value(only)
                if isinstance(found, (list, tuple)):
                    return list(found) if kind == "list" else tuple(found)
            case ast.Name(id=name):
                return self._own.get(name, self._base.get(name, Unread(name, node.lineno)))
            case ast.Set(elts=[ast.Set(elts=[ast.Attribute() as inner])]):  # {{_base_.model.neck}}
                return self._from_base(inner)
            case ast.Attribute():
                return self._from_base(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                found = self.value(operand)
                if isinstance(found, (int, float)):
                    return -found
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self._sum(node, self.value(left), self.value(right))
        return Unread(ast.unparse(node)[:200], node.lineno)

    def _dict(self, keys: list[ast.expr | None], values: list[ast.expr]) -> Any:
        found: Config = {}
        for key, value in zip(keys, values, strict=True):
            item = self.value(value)
            if key is None:
                if not isinstance(item, dict):
                    return Unread(f"**{ast.unparse(value)[:200]}", value.lineno)
                found.update(item)
            elif isinstance(name := self.value(key), (str, int)):
                found[str(name)] = item
        return found

    def _from_base(self, node: ast.Attribute) -> Any:
        names: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        found: Any = self._base if isinstance(inner, ast.Name) and inner.id == "_base_" else None
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return Unread(ast.unparse(node)[:200], node.lineno) if found is None else found

    def _sum(self, node: ast.expr, left: Any, right: Any) -> Any:
        sequences = type(left) is type(right) and isinstance(left, (str, list, tuple))
        if sequences and len(left) + len(right) < _MOST_VALUES:
            return left + right
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return left + right
        return Unread(ast.unparse(node)[:200], node.lineno)


def _merge(base: Any, own: Any) -> Any:
    """`own` over `base` as mmengine merges: dicts by key, all else replaced, `_delete_` forgets the base."""
    if not isinstance(base, dict) or not isinstance(own, dict) or own.get("_delete_") is True:
        return _without_marks(own)
    merged = dict(base)
    for key, value in own.items():
        merged[key] = _merge(base.get(key), value)
    return merged


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_marks(item) for key, item in value.items() if key != "_delete_"}
    return value


def _is_small(value: Any) -> bool:
    waiting, count = [value], 0
    while waiting and count < _MOST_VALUES:
        one = waiting.pop()
        count += 1 + (len(one) // 64 if isinstance(one, str) else 0)
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, (list, tuple)) else ()
    return count < _MOST_VALUES
