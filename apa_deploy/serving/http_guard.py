"""uvicorn's HTTP protocol with the bounds that it lacks: on heads, on clients that do not read, and on connections.

At the limit of connections, those that wait for a request are the first to go. Where all are at work, some more are
taken for the sake of probes, which are answered there; anything else is told to come back.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from itertools import islice
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD = 64 * 1024  # bytes of request line, headers and trailers
PROBES = "/v2/health/"

_RESERVE = 32  # connections beyond the limit, for probes
_LINGER = 2.0  # seconds for which what a refused client still sends is read and dropped, lest a reset overtake us
_VERSIONS = ("1.0", "1.1")
_BUSY = b"503 Service Unavailable"


class HeadError(Exception):
    """The head is too large, or of another HTTP: ends the parser's work from within one of its callbacks."""


class Connections:
    """The connections of one port. `limit`: how many there may be, apart from a reserve for probes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.ended = limit, 0
        self._all: set[GuardedProtocol] = set()
        self._idle: dict[GuardedProtocol, None] = {}  # the one that has waited longest in front

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: GuardedProtocol) -> bool:
        """Take a connection in, at the cost of an idle one at the limit; False: there is no room at all."""
        if len(self._all) >= self.limit and not self.end_idle(1) and len(self._all) >= self.limit + _RESERVE:
            return False
        connection.for_probes = len(self._all) >= self.limit
        self._all.add(connection)
        self._idle[connection] = None
        return True

    def rest(self, connection: GuardedProtocol) -> None:
        """It waits for a request."""
        if connection in self._all:
            self._idle[connection] = None

    def work(self, connection: GuardedProtocol) -> None:
        """It has a request."""
        self._idle.pop(connection, None)

    def discard(self, connection: GuardedProtocol) -> None:
        """It is gone, or as good as."""
        self._all.discard(connection)
        self._idle.pop(connection, None)

    def end_idle(self, count: int) -> bool:
        """Close up to `count` connections that wait for a request; whether there was one.

        Where many clients connect at once, a request may be there that was not read: its connection stays.
        """
        oldest = list(islice((one for one in self._idle if not one.has_unread()), count))
        for connection in oldest:
            self.discard(connection)
            self.ended += 1
            connection.transport.abort()
        return bool(oldest)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        connections: of its port.
        head_seconds: within which a head must be complete, and a new connection must have begun one.
        write_seconds: within which the client must take the next piece of an answer.
    """

    def __init__(
        self, *arguments: Any, connections: Connections, head_seconds: float, write_seconds: float, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._connections, self._head_seconds, self._write_seconds = connections, head_seconds, write_seconds
        self.for_probes = False
        self._began = self._refused = False
        self._head_bytes = self._field_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(
            high=1, low=0
        )  # an answer is sent when its last byte is, not 64 KiB before
        if not self._connections.add(self):
            self._refuse(_BUSY)
        elif self.for_probes:
            self.app = answer_probes(self.app, 503)
        self._expect_head()  # a connection that never says anything is closed as well

    def has_unread(self) -> bool:
        """Whether the client has sent what nobody has read yet."""
        if self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._began = False
        super().data_received(data)
        if self._head_timer is not None and not self._refused:
            if not self._began:  # else part of the data may be the body of the request before
                self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse_rest(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        self._began = True
        self._field_bytes = 0
        self._expect_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.get_http_version() not in _VERSIONS:
            raise HeadError
        self._stop_head_timer()
        self._connections.work(self)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._connections.rest(self)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Called where the parser gives up, and where a callback ends it."""
        too_large = self._field_bytes > MAX_HEAD
        self._refuse_rest(b"431 Request Header Fields Too Large" if too_large else b"400 Bad Request")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self._write_seconds, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def _count(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > MAX_HEAD:
            raise HeadError

    def _expect_head(self) -> None:
        self._stop_head_timer()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self._head_seconds, self._refuse_slow_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _give_up(self) -> None:
        """The client does not read. What it was to get is dropped with the connection."""
        self._connections.ended += 1
        self.transport.abort()

    def _refuse_slow_head(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._refuse_rest(b"408 Request Timeout")

    def _refuse_rest(self, status: bytes) -> None:
        """Refuse what comes now, after the answers to the requests before it; nothing behind it is read."""
        if self._refused:
            return None
        self._refused = True
        self._stop_head_timer()
        current = self.cycle
        if current is None or current.response_complete:
            return self._refuse(status)
        if current.more_body and not self.pipeline:  # it is in the middle of the request that is being answered
            started, current.disconnected = current.response_started, True
            current.message_event.set()
            return self.transport.close() if started else self._refuse(status)

        async def refuse(scope: Any, receive: Any, send: Any) -> None:
            last.response_started = last.response_complete = True
            self._refuse(status)

        if current.more_body:
            self.pipeline.popleft()
        last = self._empty_cycle()
        self.pipeline.appendleft((last, refuse))
        return None

    def _empty_cycle(self) -> RequestResponseCycle:
        """Something to stand in the pipeline for a request that could not be read."""
        return RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=lambda: None,
        )

    def _refuse(self, status: bytes) -> None:
        """Say so, and close once the client has had time to read it."""
        self._refused = True
        self._connections.discard(self)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER, self.transport.abort)


def answer_probes(app: Callable[..., Any], otherwise: int) -> Callable[..., Any]:
    """An ASGI application that is `app` to probes, and answers anything else with the status `otherwise`."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith(PROBES):
            await app(scope, receive, send)
            return
        headers = [(b"content-length", b"0"), (b"connection", b"close"), (b"retry-after", b"1")]
        await send({"type": "http.response.start", "status": otherwise, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return answer
