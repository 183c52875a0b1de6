"""The connections of a port: how many there may be, and who goes where there are too many.

A connection is at work from the end of a request's head until its answer has left; otherwise it is idle, whatever
it has sent. Idle ones go first, the longest idle in front; then those whose body has come to a halt. Where all are
at work, some more are taken for the sake of probes.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

RESERVE = 32  # connections beyond the limit, for probes

_STALLED = 1.0  # seconds without a byte after which a body that is not complete has come to a halt
_PEEK = 64 * 1024  # bytes; a larger head is refused


class Connection(Protocol):
    """What is asked of a connection. `in_head`: the beginning of a head was read from it."""

    in_head: bool
    transport: Any


class Connections:
    """The connections of one port. `limit`: how many may be at work; `ended`: those that had to go."""

    def __init__(self, limit: int) -> None:
        self.limit, self.ended = limit, 0
        self._all: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the one that has waited longest in front
        self._receiving: dict[Connection, float] = {}  # when each got a byte of its body, the oldest in front

    def __len__(self) -> int:
        return len(self._all)

    def descriptors(self) -> list[int]:
        """Of the sockets of all; -1 of one that is closed."""
        return [one.transport.get_extra_info("socket").fileno() for one in self._all]

    def add(self, connection: Connection) -> bool:
        """Take a connection in, at the cost of others at the limit; False: there is no room at all."""
        if (excess := len(self._all) + 1 - self.limit) > 0:
            self.end_idle(excess)
            if len(self._all) >= self.limit + RESERVE:
                return False
        self._all.add(connection)
        self._idle[connection] = None
        return True

    def rest(self, connection: Connection) -> None:
        """It waits for a request."""
        self._receiving.pop(connection, None)
        if connection in self._all:
            self._idle.setdefault(connection)

    def receive(self, connection: Connection) -> None:
        """A part of its request's body has come, and more is to come."""
        self._receiving.pop(connection, None)
        if connection in self._all:
            self._receiving[connection] = time.monotonic()

    def end_body(self, connection: Connection) -> None:
        """The whole body is there."""
        self._receiving.pop(connection, None)

    def work(self, connection: Connection) -> bool:
        """It has the head of a request; whether there is room for more than a probe."""
        self._idle.pop(connection, None)
        self._receiving.pop(connection, None)
        return len(self._all) - len(self._idle) <= self.limit

    def discard(self, connection: Connection) -> None:
        """It is gone, or as good as."""
        self._all.discard(connection)
        self._idle.pop(connection, None)
        self._receiving.pop(connection, None)

    def end_idle(self, count: int) -> None:
        """End up to `count` connections that are not at work, or have come to a halt."""
        for connection in [*islice(self._without_request(), count)]:
            self._end(connection)
            count -= 1
        now = time.monotonic()
        stalled = (one for one, at in self._receiving.items() if now - at > _STALLED and not _unread(one))
        for connection in [*islice(stalled, count)]:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        self.discard(connection)
        self.ended += 1
        connection.transport.abort()

    def _without_request(self) -> Iterator[Connection]:
        """Where many clients connect at once, a request may be there that nobody has read: it is at work."""
        for connection in list(self._idle):
            if _has_request(connection):
                del self._idle[connection]
            else:
                yield connection


def _has_request(connection: Connection) -> bool:
    """Whether the end of a head lies unread; of what is encrypted, anything counts."""
    unread = _unread(connection)
    if unread and connection.transport.get_extra_info("sslcontext"):
        return True
    if not connection.in_head:
        unread = unread.lstrip(b"\r\n")  # which may precede a head, and are none
    return b"\n\r\n" in unread or b"\n\n" in unread or unread.startswith((b"\r\n", b"\n"))


def _unread(connection: Connection) -> bytes:
    """What lies unread, without reading it."""
    there = connection.transport.get_extra_info("socket")
    borrowed = socket.socket(there.family, there.type, there.proto, there.fileno())  # asyncio's lets nobody read
    try:
        return borrowed.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""
    finally:
        borrowed.detach()
