"""A client that has sent all it wants to and waits for its answer, or one that is gone: both say the same in TCP.

So the first byte of the answer, which is the same in all answers, is sent at once. Where the client is gone, its
machine refuses it, and the socket is found broken.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any


class BegunTransport:
    """A transport on which the next answer has begun."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._sent = transport, 1
        transport.write(b"H")

    def write(self, data: bytes) -> None:
        """Send what is not sent yet: anything that HTTP answers begins with its name."""
        self._transport.write(data[self._sent :])
        self._sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def see_end(transport: asyncio.BaseTransport) -> tuple[bool, bool]:
    """Whether the client sends no more, and whether the connection is broken, though nobody reads or writes."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    found = sum(event for _, event in poll.poll(0))
    return bool(found & select.POLLRDHUP), bool(found & (select.POLLHUP | select.POLLERR))
