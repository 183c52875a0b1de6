"""The one family of errors: each says what was seen, what was wanted and what to do.

Subsystems derive their own class and keep the facts of the message in fields, so that a
caller reads `error.missing`, never the text. The exit code belongs to the family.
"""

from __future__ import annotations

from typing import ClassVar


class ApaError(Exception):
    """Base of every error that a user may see. `str()` joins the three parts."""

    exit_code: ClassVar[int] = 2

    def __init__(self, saw: str, wanted: str, do: str) -> None:
        super().__init__(saw, wanted, do)
        self.saw, self.wanted, self.do = saw, wanted, do

    def __str__(self) -> str:
        return f"{self.saw}; wanted {self.wanted}. {self.do}"


class InputError(ApaError):
    """Misuse or bad input: exit code 2."""


class GateError(ApaError):
    """A gate (parity, verification) failed: exit code 1."""

    exit_code = 1


class MissingError(ApaError):
    """This machine lacks a component: exit code 3. `do` holds the command that adds it."""

    exit_code = 3
