"""What `apa-export` knows of a format: its name, its options, and what makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apa_deploy.runtimes.artifacts import artifact_kind

from .options import all_flags, own_flags

if TYPE_CHECKING:
    from apa_deploy.network import Network
    from apa_deploy.records.passport import Passport


@dataclass(frozen=True)
class ExportSource:
    """What is exported. `load`: reads it as the command line says, with what is baked into its graph."""

    path: Path
    load: Callable[[], Network]


@dataclass(frozen=True)
class Outcome:
    """What was written. `passport`: of the network; None where the source was exported already.

    `document`: what --json prints where that is not the passport; `lines`: for people, made when they are shown.
    """

    path: Path
    passport: Passport | None
    lines: Callable[[], Iterable[str]] = tuple
    document: Callable[[], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Target:
    """One value of --format. `suffix`: of what it writes, a folder's too.

    `repacks`: kinds of exported files (`runtimes.artifacts`) that it takes as they are: options nested in its class
    do not hold then.

    `export` writes the path, whole or not at all, from the source and an instance of `options`.
    """

    name: str
    suffix: str
    options: type
    export: Callable[[ExportSource, Path, Any], Outcome]
    folder: bool = False
    repacks: tuple[str, ...] = ()

    def takes_as_it_is(self, source: Path) -> bool:
        """Whether the file was exported before, and is not exported again."""
        return artifact_kind(source).name in self.repacks

    def takes(self, destination: str, value: object, *, repack: bool = False) -> bool:
        """Whether this option, by its name in a namespace, belongs here with this value."""
        flags = (own_flags if repack else all_flags)(self.options)
        return destination in flags and flags[destination][0].fits(value)

    def choices(self, destination: str) -> tuple[str, ...]:
        """The values of an option that it takes; () where any, or none."""
        flags = all_flags(self.options)
        return flags[destination][0].choices if destination in flags else ()
