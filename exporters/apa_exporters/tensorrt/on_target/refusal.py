"""The errors of the target: what was seen, what was wanted, what to do, and the exit code."""

from __future__ import annotations

FAILED, MISUSE, MISSING = 1, 2, 3


class RefusalError(Exception):
    """`str()` joins the three parts. `code`: FAILED, MISUSE or MISSING."""

    def __init__(self, saw: str, wanted: str, do: str, code: int) -> None:
        super().__init__(f"{saw}; wanted {wanted}. {do}")
        self.saw, self.wanted, self.do, self.code = saw, wanted, do, code
