"""End a run that goes on in another thread."""

from __future__ import annotations

from collections.abc import Callable

End = Callable[[], None]


class Cancellation:
    """Handed to a run, which says how it can be ended: on request, where the runtime lends a hand, or by force."""

    def __init__(self) -> None:
        self.is_requested = self.is_forced = False
        self._request: End | None = None
        self._force: End | None = None

    def on_request(self, end: End) -> None:
        """`end`: asks the runtime to stop before its next operator."""
        self._request = end
        if self.is_requested:  # it came first
            end()

    def on_force(self, end: End | None) -> None:
        """`end`: ends the process of the run; None: the run is over."""
        self._force = end
        if end and self.is_forced:
            end()

    def request(self) -> None:
        """Nobody waits for the result any more."""
        self.is_requested = True
        if self._request:
            self._request()

    def force(self) -> None:
        """The time limit has passed as well."""
        self.is_forced = True
        if self._force:
            self._force()
