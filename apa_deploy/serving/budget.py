"""A bound on the memory that requests and their answers hold together, whichever protocol brought them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from .errors import OverloadedError


class Budget:
    """`limit` bytes for all requests and answers at once; `held` of them are taken, `peak` were at most."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held, self.peak = limit, 0, 0

    def share(self) -> Share:
        """A share of nothing yet, for one request: a context that gives back what it took."""
        return Share(self)


class Share:
    """What one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._held = budget, 0

    def take(self, count: int) -> None:
        """Take `count` more bytes.

        Raises:
            OverloadedError: the budget does not have them.
        """
        if self._budget.held + count > self._budget.limit:
            saw = f"{self._budget.held} bytes of requests and answers"
            raise OverloadedError(saw, f"at most {self._budget.limit}")
        self._budget.held += count
        self._held += count
        self._budget.peak = max(self._budget.peak, self._budget.held)

    def give_back(self) -> None:
        """Give back all that was taken."""
        self._budget.held -= self._held
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()
