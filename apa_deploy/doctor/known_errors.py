"""An error message -> its cause and the command that ends it, by the table in known_errors.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_suffix(".toml")
_PLUGIN_PATH = '$(python -c "import apa_deploy; print(apa_deploy.trt_plugin_library())")'


@dataclass(frozen=True)
class KnownError:
    """A row of the table; its header says what the fields are."""

    name: str
    patterns: tuple[re.Pattern[str], ...]
    words: tuple[tuple[re.Pattern[str], ...], ...]
    cause: str
    do: str
    threads: tuple[str, ...] = ()
    general: bool = False
    vague: bool = False


@dataclass(frozen=True)
class Explained:
    """A known error as it was met: `seen` is the part of the message that told it."""

    name: str
    seen: str
    cause: str
    do: str
    threads: tuple[str, ...]


@cache
def read_known_errors() -> tuple[KnownError, ...]:
    """The table, in its order."""
    rows = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["error"]
    return tuple(_row(**row) for row in rows)


def _row(
    name: str, cause: str, do: str, patterns: Sequence[str] = (), words: Sequence[Sequence[str]] = (),
    threads: Sequence[str] = (), general: bool = False, vague: bool = False,
) -> KnownError:  # fmt: skip
    groups = tuple(tuple(map(_compile, group)) for group in words)
    compiled = tuple(map(_compile, patterns))
    return KnownError(name, compiled, groups, cause.strip(), do.strip(), tuple(threads), general, vague)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def explain_errors(text: str, *, vague: bool = True) -> list[Explained]:
    """The known errors in `text`, each once, in the table's order: the sharpest kind that is met.

    Args:
        vague: whether complaints count where no message is met.
    """
    flat = " ".join(text.split())
    met = [(known, match) for known in read_known_errors() if (match := _first(known, flat))]
    sharp, general, doubtful = ([p for p in met if _kind(p[0]) == kind] for kind in range(3))
    return [_explain(known, match) for known, match in sharp or general or (doubtful if vague else [])]


def _kind(known: KnownError) -> int:
    return 2 if known.vague else 1 if known.general else 0


def _first(known: KnownError, text: str) -> re.Match[str] | None:
    if whole := next((match for pattern in known.patterns if (match := pattern.search(text))), None):
        return whole
    met = ([word.search(text) for word in group] for group in known.words)
    return next((matches[0] for matches in met if all(matches)), None)


def _explain(known: KnownError, match: re.Match[str]) -> Explained:
    told = {name: text for name, text in match.groupdict().items() if text is not None}
    groups = _Groups(told, plugin_path=_PLUGIN_PATH)
    cause, do = (" ".join(text.format_map(groups).split()) for text in (known.cause, known.do))
    return Explained(known.name, match[0], cause, do, known.threads)


class _Groups(dict[str, str]):
    """A group that this pattern lacks: nothing is said of it."""

    def __missing__(self, key: str) -> str:
        return "whose name is not in the message" if key == "plugin" else "unknown"
