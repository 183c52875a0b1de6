"""Who calls over gRPC, and what of their messages is on its way in.

The library holds a message until it is whole and tells nobody; the kernel counts what has come on a connection.
What came, less the messages that are whole and what goes with them, is those that are not: an estimate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .budget import Budget
from .errors import OverloadedError, ServingError, SlowClientError
from .sockets import Address, OpenSocket, parse_peer

_GREETING = 1 << 14  # bytes of a new connection that belong to no message: TLS and settings
_CALL = 512  # bytes around a call, beside its metadata
_MESSAGE = 256  # bytes around a message, however small, and its answer's windows: 50, and 29 for each record of TLS
_PINGS = 64  # bytes a second that belong to no message
_FRAMES = 128  # of so many bytes one is no message's: 9 in 16 KiB for HTTP/2, 29 for TLS
_SMALL = 1 << 16  # bytes; below, nobody is held to have sent half a message


class AwaitedMessage:
    """The wait for a message, for so many seconds at most (None: for ever). Raises `TimeoutError` as a context."""

    def __init__(self, seconds: float | None) -> None:
        self.timeout = asyncio.timeout(seconds)
        self.reasons: list[ServingError] = []

    def end(self, reason: ServingError) -> None:
        """Have it time out now, for `reason`."""
        if not self.reasons and not self.timeout.expired():
            self.reasons.append(reason)
            self.timeout.reschedule(0)


@dataclass(slots=True, eq=False)
class Caller:
    """A connection: how many calls of it are open, and which of them wait for a message.

    `received`: bytes at the last look. `unfinished`: what of them no whole message accounts for; below 0 where
    these came since. `counted`: what of that counts as memory. `rest`: when there was last next to nothing.
    """

    address: Address
    calls: int = 0
    reads: dict[AwaitedMessage, None] = field(default_factory=dict)
    received: int = 0
    unfinished: int = -_GREETING
    counted: int = 0
    rest: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic)

    def look(self, received: int, now: float) -> None:
        """Take the kernel's count of all bytes so far."""
        pings, self.looked = int((now - self.looked) * _PINGS), now
        new = received - self.received if received >= self.received else received  # less: it is another connection
        self.received = received
        self.unfinished = max(0, self.unfinished + new - pings) if self.reads else 0

    def end_reads(self, reason: ServingError) -> None:
        """Refuse the calls that wait for a message: which of them the bytes belong to is not known."""
        for read in self.reads:
            read.end(reason)


class Callers:
    """Every connection that has called.

    Args:
        budget: where what is on its way in counts.
        largest: bytes of a message.
        seconds: within which a message must have come.
    """

    def __init__(self, budget: Budget, largest: int, seconds: float) -> None:
        self._budget, self._largest, self._seconds = budget, largest, seconds
        self._callers: dict[str, Caller] = {}
        self.has_news = False

    @property
    def calls(self) -> int:
        """Open now."""
        return sum(caller.calls for caller in self._callers.values())

    @property
    def is_much(self) -> bool:
        """Whether what is on its way in takes so much that it should be looked at more often."""
        return self._budget.incoming > self._budget.limit / 8

    def addresses(self) -> set[Address]:
        """Of those with a call."""
        return {caller.address for caller in self._callers.values() if caller.calls}

    def enter(self, context: Any) -> None:
        """Count a call until its status has left."""
        name = context.peer()
        caller = self._callers.get(name) or self._callers.setdefault(name, Caller(parse_peer(name)))
        caller.calls += 1
        caller.unfinished -= _CALL + sum(
            len(key) + len(value) for key, value in context.invocation_metadata() or ()
        )
        context.add_done_callback(lambda _: self._leave(caller))
        self.has_news = True

    def _leave(self, caller: Caller) -> None:
        caller.calls -= 1

    def of(self, context: Any) -> Caller:
        """Who makes a call."""
        return self._callers[context.peer()]

    def finish(self, caller: Caller, size: int) -> None:
        """A message of so many bytes is whole; from now on it counts as any other request."""
        caller.unfinished -= size + size // _FRAMES + _MESSAGE
        caller.rest = time.monotonic()
        known = min(size, caller.counted)
        caller.counted -= known
        self._budget.incoming -= known

    def look(self, sockets: Iterable[OpenSocket]) -> None:
        """Count anew, by the kernel's counts; refuse what is beyond the memory, and what takes too long."""
        received, now = {one.peer: one.received for one in sockets}, time.monotonic()
        for name, caller in list(self._callers.items()):
            if caller.address in received:
                caller.look(received[caller.address], now)
            elif not caller.calls:
                del self._callers[name]
                continue
            caller.counted = min(caller.unfinished, len(caller.reads) * self._largest)
            # where a stream is being answered, whole messages may lie behind the one that it asked about
            if caller.counted <= _SMALL or caller.calls > len(caller.reads):
                caller.rest = now
            elif now - caller.rest > self._seconds:
                saw = f"no whole message after {self._seconds:g} s"
                caller.end_reads(SlowClientError(saw, "one within the time limit", "Send it faster."))
        self.has_news = any(caller.calls for caller in self._callers.values())
        self._budget.incoming = sum(caller.counted for caller in self._callers.values())
        self._budget.see_peak()
        self._refuse_beyond_limit()

    def _refuse_beyond_limit(self) -> None:
        budget = self._budget
        for caller in sorted(self._callers.values(), key=lambda one: one.counted, reverse=True):
            if budget.taken <= budget.limit or not caller.counted:
                return
            saw = f"{budget.held} bytes of requests and answers, {budget.incoming} on their way in"
            caller.end_reads(OverloadedError(saw, f"at most {budget.limit}"))
            budget.incoming -= caller.counted
            caller.counted = caller.unfinished = 0
