"""One finding: what is wanted, what is here, and what to do about the difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class FindingState(StrEnum):
    """OK: as wanted. NOTE: it works, but know this. MISSING: it does not work without."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """`topic`: what it is about; `do`: the command or step, "" where nothing is to be done."""

    topic: str
    wanted: str
    here: str
    state: FindingState = FindingState.OK
    do: str = ""


def check_need(topic: str, wanted: str, here: str, good: bool, do: str) -> Finding:
    """OK where `good`, else MISSING with what to do."""
    return Finding(topic, wanted, here, FindingState.OK if good else FindingState.MISSING, "" if good else do)


def something_missing(findings: Iterable[Finding]) -> bool:
    """Whether one of them stands in the way."""
    return any(finding.state is FindingState.MISSING for finding in findings)
