"""What became of a part of the check: each part ends in one of these, none is left out of the report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from apa_deploy.errors import ApaError, GateError, MissingError


class State(StrEnum):
    """PASSED: it ran, and is right. FAILED: it ran, and is not. SKIPPED: it could not run, see `reason`."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass
class Outcome:
    """`rows`: what was found, one table; `reason`, `do`: why it did not pass, and what to do about it."""

    part: str
    state: State
    reason: str = ""
    do: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)

    @classmethod
    def of_json(cls, document: dict[str, Any]) -> Outcome:
        """What `as_json` gave."""
        return cls(**{**document, "state": State(document["state"])})


def outcome_of(part: str, run: Callable[[], Outcome]) -> Outcome:
    """Run a part; an error that a user may see becomes its outcome."""
    try:
        return run()
    except MissingError as error:
        return Outcome(part, State.SKIPPED, f"{error.saw}; wanted {error.wanted}", error.do)
    except GateError as error:
        return Outcome(part, State.FAILED, str(error))
    except ApaError as error:
        return Outcome(part, State.FAILED, error.saw, error.do)
    except ModuleNotFoundError as error:  # offline, with no more than a prepared folder has
        saw = f"the package {error.name} is not here; wanted all that apa-deploy needs"
        return Outcome(part, State.SKIPPED, saw, "Run: pip install -e .")
    except Exception as error:  # noqa: BLE001 - what one part meets must not cost the report of the others
        traceback.print_exc()
        return Outcome(
            part, State.FAILED, f"unexpected {type(error).__name__}: {error}", "See the traceback above."
        )


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """1 where a part failed, else 3 where one could not run, else 0."""
    states = {outcome.state for outcome in outcomes}
    return 1 if State.FAILED in states else 3 if State.SKIPPED in states else 0
