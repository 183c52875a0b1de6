"""File descriptors: how many connections they allow, and who goes where too few are left.

HTTP connections look after themselves (`connections.py`), except those that have not finished a TLS handshake;
these, and gRPC's, are known to the kernel alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import time
from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from .callers import Callers
from .connections import RESERVE, Connections
from .log import JsonLog
from .sockets import OpenSocket, count_descriptors, list_sockets

_OTHERS = 400  # descriptors: ports of their own and their reserves, libraries, models, processes
_FEWEST = 256  # descriptors, for the smallest number of connections and what is reserved beside them
_LOG_EVERY = 10.0  # seconds between two lines about the same shortage
_AT_ONCE = 64  # idle connections that go when none is left
_OUT = (errno.EMFILE, errno.ENFILE)
_LOOK, _SOON = 0.25, 0.05  # seconds
_CROWDED = 3 / 4  # of what there may be, from which idle ones go
_GREETING = 1.0  # seconds for a handshake where it is crowded; one that goes on is never as quiet
_HELLO = 256  # bytes: a client of gRPC has said hello, and asked nothing


def count_connections(wanted: int, log: JsonLog) -> int:
    """`wanted`, or what the descriptors allow for HTTP with as many for gRPC; raises the soft limit first.

    Raises:
        InputError: the descriptors would not do for the least that a server needs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + _OTHERS
    if soft < needed:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard) if hard > 0 else needed, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft < _FEWEST:
        do = f"Raise it, e.g. ulimit -n {needed}."
        raise InputError(f"a limit of {soft} open files (ulimit -n)", f"{_FEWEST} or more", do)
    allowed = min(wanted, max(16, (soft - _OTHERS) // 2))
    if allowed < wanted:
        log.warning("descriptors", limit=soft, connections=allowed, wanted=wanted, notice="raise ulimit -n")
    return allowed


def count_grpc_connections(limit: int) -> int:
    """As many as calls, and some for probes and for clients that come as idle ones go."""
    return limit + 2 * RESERVE


class SocketGuard:
    """Ends connections that ask nothing where descriptors become few: the longest quiet first.

    Args:
        http: the connections of each HTTP port.
        callers: who calls over gRPC.
    """

    def __init__(self, http: Sequence[Connections], callers: Callers, log: JsonLog) -> None:
        self._http, self._callers, self._log = http, callers, log
        self.http_ports: set[int] = set()
        self.grpc_port, self.grpc_limit, self.ended = 0, 0, 0
        self._logged, self._looked = -_LOG_EVERY, -_LOOK

    @property
    def calls(self) -> int:
        """Open over gRPC."""
        return self._callers.calls

    def answer_shortage(self) -> None:
        """Let idle connections go, as the event loop cannot accept another; say so now and then, not every time."""
        loop = asyncio.get_running_loop()

        def answer(_: Any, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if not (isinstance(error, OSError) and error.errno in _OUT):
                loop.default_exception_handler(context)
                return
            for port in self._http:
                port.end_idle(_AT_ONCE)
            if time.monotonic() - self._looked > _LOOK:  # asyncio fails a thousand times in a row
                self._looked = time.monotonic()
                self._end(self._without_handshake(list_sockets(self.http_ports))[:_AT_ONCE])
            if time.monotonic() - self._logged > _LOG_EVERY:
                self._logged = time.monotonic()
                notice = "none is left; idle connections are closed. Raise ulimit -n"
                self._log.warning("descriptors", notice=notice)

        loop.set_exception_handler(answer)

    async def watch(self) -> None:
        """For ever: see that there is room for those who ask something."""
        while True:
            await asyncio.sleep(_SOON if self._callers.is_much else _LOOK)
            descriptors, most = count_descriptors(), _CROWDED * resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            if descriptors > min(most, _CROWDED * self.grpc_limit):
                self.end_idle(short=descriptors > most)
            if self._callers.has_news:
                self._callers.look(list_sockets({self.grpc_port}))

    def end_idle(self, *, short: bool) -> None:
        """End what is idle over gRPC beyond its share; where descriptors are `short`, also late handshakes."""
        sockets = list_sockets({self.grpc_port, *self.http_ports})
        callers = self._callers.addresses()
        grpc = [one for one in sockets if one.port == self.grpc_port]
        idle = sorted((one for one in grpc if one.peer not in callers), key=_first_to_go)
        self._end(idle[: max(0, len(grpc) - round(_CROWDED * self.grpc_limit))])
        if short:
            self._end([one for one in self._without_handshake(sockets) if one.quiet > _GREETING])

    def _without_handshake(self, sockets: Sequence[OpenSocket]) -> list[OpenSocket]:
        """Those that asyncio keeps from us, the longest quiet in front."""
        known = {descriptor for port in self._http for descriptor in port.descriptors()}
        found = [one for one in sockets if one.port in self.http_ports and one.descriptor not in known]
        return sorted(found, key=_first_to_go)

    def _end(self, sockets: Sequence[OpenSocket]) -> None:
        self.ended += len(sockets)
        for one in sockets:
            one.end()


def _first_to_go(one: OpenSocket) -> tuple[bool, float]:
    return one.received > _HELLO, -one.quiet
