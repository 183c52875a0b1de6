"""An option of `apa-export` is a field of a dataclass: its default, its help and its owner stand in one place.

A target names its options class; the parser, the values, and which option fits which format all follow from it.

    @dataclass(frozen=True)
    class MyOptions:
        group: ClassVar[str] = "mine"                                   # heading in --help
        runs: int = option(400, "runs of each engine", type=int)        # --runs
        graph: GraphOptions = nest(GraphOptions)                      # and all options of that class
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

Options = TypeVar("Options")
Batches = tuple[int, int, int]
BATCHES: Batches = (1, 8, 32)  # least, usual and largest of an engine, where nothing else is said
_KEY = "option"


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Flag:
    """How a field is spelled, and which of its values its class takes: `choices`, or those of type `takes`.

    `read`: from the parsed value to the field's. `shared`: the parser has it already, from elsewhere.
    """

    name: str
    choices: tuple[str, ...] = ()
    takes: type = object
    read: Callable[[Any], Any] = _same
    shared: bool = False
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def destination(self) -> str:
        """Its name in a namespace."""
        return self.name.removeprefix("--").replace("-", "_")

    def fits(self, value: Any) -> bool:
        """Whether its class takes this value."""
        return isinstance(value, self.takes) and (not self.choices or value in self.choices)


def option(
    default: Any,
    help: str = "",
    *,
    flag: str = "",
    choices: tuple[str, ...] = (),
    takes: type = object,
    read: Callable[[Any], Any] = _same,
    shared: bool = False,
    **keywords: Any,
) -> Any:
    """A field that is an option; `flag`: its name where it isn't the field's, `keywords`: for `add_argument`."""
    if isinstance(default, bool):
        keywords["action"] = "store_false" if default else "store_true"
    one = Flag(flag, choices, takes, read, shared, {"help": help} | keywords)
    return field(default=default, metadata={_KEY: one})


def nest(kind: type) -> Any:
    """A field that holds the options of another class."""
    return field(default_factory=kind)


def batch_option(default: Any, help: str = "", **changes: Any) -> Any:
    """`--batch`, which several targets own: a size, or least, usual and largest."""
    help = help or "fixed batch (default: dynamic; engines 1:8:32)"
    return option(default, help, flag="--batch", type=_batch, metavar="N|MIN:OPT:MAX", **changes)


def batches_from(batch: int | Batches) -> Batches:
    """Least, usual and largest batch; all equal for a fixed one."""
    return (batch, batch, batch) if isinstance(batch, int) else batch


def _batch(text: str) -> int | Batches:
    match = re.fullmatch(r"(\d+)(?::(\d+):(\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a size, or MIN:OPT:MAX for an engine, e.g. 1:8:32")
    return (int(match[1]), int(match[2]), int(match[3])) if match[2] else int(match[1])


def own_flags(kind: type) -> dict[str, tuple[Flag, str]]:
    """Flag and group heading of each option that `kind` has itself or inherits, by its name in a namespace."""
    found = {}
    for one in fields(kind):
        if flag := _flag(one):
            owner = next(base for base in kind.__mro__ if one.name in vars(base).get("__annotations__", {}))
            found[flag.destination] = (flag, str(getattr(owner, "group", "")))
    return found


def all_flags(kind: type) -> dict[str, tuple[Flag, str]]:
    """Those of `own_flags`, and those of the classes nested in it."""
    found = own_flags(kind)
    for _, inner in _inner_classes(kind):
        found = all_flags(inner) | found
    return found


def read_options(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """An instance of `kind` from what a command line gave, by its name in a namespace."""
    values: dict[str, Any] = {name: read_options(inner, given) for name, inner in _inner_classes(kind)}
    for one in fields(kind):  # type: ignore[arg-type]
        if (flag := _flag(one)) and flag.destination in given:
            values[one.name] = flag.read(given[flag.destination])
    return kind(**values)


def _inner_classes(kind: type) -> Iterator[tuple[str, type]]:
    for one in fields(kind):
        if is_dataclass(one.default_factory):
            yield one.name, one.default_factory


def _flag(one: Field[Any]) -> Flag | None:
    flag: Flag | None = one.metadata.get(_KEY)
    if flag is None or flag.name:
        return flag
    return Flag(f"--{one.name.replace('_', '-')}", **{k: v for k, v in vars(flag).items() if k != "name"})
