"""A bound on the memory that requests and their answers hold together, whichever protocol brought them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from .errors import OverloadedError


class Budget:
    """`limit` bytes for all requests and answers at once; `held` of them are taken.

    `incoming`: bytes of messages that gRPC holds until they are whole. `peak`: of both, the most there were.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held, self.incoming, self.peak = limit, 0, 0, 0

    @property
    def taken(self) -> int:
        return self.held + self.incoming

    def see_peak(self) -> None:
        """Note what is taken now."""
        self.peak = max(self.peak, self.taken)

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
        if self._budget.taken + count > self._budget.limit:
            saw = f"{self._budget.taken} bytes of requests and answers"
            raise OverloadedError(saw, f"at most {self._budget.limit}")
        self._budget.held += count
        self._held += count
        self._budget.see_peak()

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
