"""File descriptors: how many connections they allow, and what happens when none is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import time
from collections.abc import Sequence
from typing import Any

from .connections import Connections
from .log import JsonLog

_OTHERS = 400  # descriptors: ports of their own and their reserves, libraries, models, processes
_QUIET = 10.0  # seconds between two lines about the same shortage
_AT_ONCE = 64  # idle connections that go when none is left
_OUT = (errno.EMFILE, errno.ENFILE)


def count_connections(wanted: int, log: JsonLog) -> int:
    """`wanted`, or what the descriptors allow for HTTP with as many for gRPC; raises the soft limit first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + _OTHERS
    if soft < needed:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard) if hard > 0 else needed, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    allowed = min(wanted, max(16, (soft - _OTHERS) // 2))
    if allowed < wanted:
        log.warning("descriptors", limit=soft, connections=allowed, wanted=wanted, notice="raise ulimit -n")
    return allowed


def end_idle_where_none_is_left(ports: Sequence[Connections], log: JsonLog) -> None:
    """Let idle connections go when the event loop cannot accept another; say so now and then, not every time."""
    said = -_QUIET

    def answer(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal said
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _OUT):
            loop.default_exception_handler(context)
            return
        for port in ports:
            port.end_idle(_AT_ONCE)
        if time.monotonic() - said > _QUIET:
            said = time.monotonic()
            log.warning("descriptors", notice="none is left; idle connections are closed. Raise ulimit -n")

    asyncio.get_running_loop().set_exception_handler(answer)
