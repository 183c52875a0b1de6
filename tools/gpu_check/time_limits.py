"""How long each thing may take: the whole keeps its time, and what is slow takes nothing that later ones need."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

_TO_KEEP_S = 3.0  # of a part: to write down what it knows


@dataclass(frozen=True)
class Limit:
    """Seconds. `most`: after which it is cut off; `least`: what those before it leave it, however slow they are."""

    most: float
    least: float


@dataclass(frozen=True)
class Deadline:
    """`end`: of `time.monotonic`."""

    end: float

    @classmethod
    def of_part(cls, seconds: float) -> Self:
        """Of what runs inside a part of so many seconds."""
        return cls(time.monotonic() + seconds - _TO_KEEP_S)

    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self.end - time.monotonic())

    def allow(self, limit: Limit, later: Iterable[Limit] = ()) -> float:
        """Seconds for what comes next. `later`: what comes after it."""
        return allot(self.left(), limit, later)


NEVER = Deadline(float("inf"))


def allot(left: float, limit: Limit, later: Iterable[Limit] = ()) -> float:
    """Of the seconds that are left, those for the next: what comes later keeps its least, unless there is too
    little for all; then the first come first. At least 0."""
    beyond = left - sum(one.least for one in later)
    return max(0.0, min(limit.most, left, max(limit.least, beyond)))


def later_ones(limits: Mapping[str, Limit], name: str) -> list[Limit]:
    """Those after `name`, in order."""
    names = list(limits)
    return [limits[one] for one in names[names.index(name) + 1 :]]
