"""uvicorn's HTTP protocol with the bounds that it lacks: on heads, chunks and connections (`connections.py`), on
requests that wait for the answer to the one before, and on clients that do not read.

While a request is being answered, what lies behind it is not parsed, and no more is read. As the parser cannot be
stopped, it is fed in slices: a body at once where its length is known, anything else by a few KiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from .budget import Budget
from .connections import Connections
from .errors import OverloadedError
from .half_closed import BegunTransport, see_end
from .http_upgrade import PlainProtocol

MAX_HEAD = 64 * 1024  # bytes of request line, headers and trailers; and of extensions of a body's chunks
PROBES = "/v2/health/"

_SLICE = 4096  # bytes fed to the parser at once, where many small requests may lie in them
_CHUNK = 32  # bytes around a chunk that need no extension: the size in up to 16 digits, line ends, some zeros
_LINGER = 2.0  # seconds for which what a refused client still sends is read and dropped, lest a reset overtake us
_LOOK = 0.1  # seconds between two looks at a connection from which nothing is read
_GOODBYE = 0.5  # seconds
_VERSIONS = ("1.0", "1.1")
_BUSY = b"503 Service Unavailable"


class HeadError(Exception):
    """The head is too large, or of another HTTP: ends the parser's work from within one of its callbacks."""


class HeldFlow(FlowControl):
    """uvicorn's flow control; while `held`, nothing more is read, whoever asks for it."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class GuardedProtocol(PlainProtocol):
    """One connection.

    Args:
        connections: of its port.
        budget: what is read before its turn counts there.
        head_seconds: within which a head must be complete, and a new connection must have begun one.
        write_seconds: within which the client must take the next piece of an answer.
    """

    def __init__(
        self,
        *arguments: Any,
        connections: Connections,
        budget: Budget,
        head_seconds: float,
        write_seconds: float,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._connections, self._head_seconds, self._write_seconds = connections, head_seconds, write_seconds
        self.in_head = False
        self._began = self._refused = self._at_end = self._watched = self._answer_begun = False
        self._current: RequestResponseCycle | None = None
        self._unread, self._share = memoryview(b""), budget.share()
        self._head_bytes = self._field_bytes = 0
        self._body_bytes = self._body_began = self._framing_bytes = self._chunks = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow: HeldFlow = HeldFlow(transport)
        transport.set_write_buffer_limits(
            high=1, low=0
        )  # an answer is sent when its last byte is, not 64 KiB before
        if not self._connections.add(self):
            self._refuse(_BUSY)
        self._expect_head()  # a connection that never says anything is closed as well

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._share.give_back()
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)
        if self._current is not None and not self._current.response_complete:  # uvicorn tells the last one alone
            self._current.disconnected = True
            self._current.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._unread:
            self._hold(memoryview(bytes(self._unread) + data))
        elif len(data) <= _SLICE and not self._waits():
            self._parse(data)
        else:
            self._feed(memoryview(data))

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has sent all that it wants to. What it asked for is answered before the connection closes."""
        current = self._current
        if self._refused or current is None or not self._waits() or self.scheme == "https":  # TLS ends both ways
            return False
        self._at_end = True
        self._begin_answer(current)
        self._watch()
        return True

    def on_message_begin(self) -> None:
        self._began = self.in_head = True
        self._field_bytes = self._framing_bytes = self._chunks = 0
        self._expect_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_head(self) -> None:
        if self.parser.get_http_version() not in _VERSIONS:
            raise HeadError
        names = [name for name, _ in self.headers]
        hosts, tokens = names.count(b"host"), names.count(b"authorization")
        if hosts > 1 or tokens > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise HeadError  # as RFC 9112 wants it; and of two tokens, a proxy may have judged the other
        self._stop_head_timer()
        self.in_head, self._body_began = False, self._body_bytes
        has_room, app = self._connections.work(self), self.config.loaded_app
        self.app = app if has_room else answer_probes(app, 503)
        starts = self.cycle is None or self.cycle.response_complete
        super().on_head()
        if starts:
            self._current = self.cycle

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._current = self.pipeline[-1][0]
        super().on_response_complete()
        if self._waits():
            return
        if self._at_end:
            self.transport.close()
        elif self._unread:
            self.loop.call_soon(self._feed_unread)
        elif self.cycle.response_complete:
            self._connections.rest(self)

    def shutdown(self) -> None:
        """At the drain: an idle connection closes at once, though in TLS a client has 30 s to say goodbye."""
        super().shutdown()
        if self.scheme == "https" and self.transport.is_closing():
            self.loop.call_later(_GOODBYE, self.transport.abort)

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

    def _waits(self) -> bool:
        """Whether a whole request is there that is not answered: what comes behind it has to wait."""
        cycle = self.cycle
        return bool(self.pipeline) or not (cycle is None or cycle.response_complete or cycle.more_body)

    def _feed(self, data: memoryview) -> None:
        """Parse as much of it as may be parsed now."""
        while data and not self._refused and not self.transport.is_closing():
            if self._waits():
                return self._hold(data)
            size = max(_SLICE, self._rest_of_body())
            self._parse(data[:size])
            data = data[size:]
        return None

    def _feed_unread(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        data, self._unread = self._unread, memoryview(b"")
        self._share.give_back()
        if self.in_head or self.cycle.response_complete:
            self._expect_head()  # the time for which it waited is not the client's
        self._feed(data)
        self.flow.held = bool(self._unread)
        self.flow.resume_reading()

    def _hold(self, data: memoryview) -> None:
        """Keep what cannot be parsed yet, and read no more meanwhile."""
        self._stop_head_timer()
        self._unread = data
        self._share.give_back()
        try:
            self._share.take(len(data))
        except OverloadedError:
            self._refuse_rest(_BUSY)
        else:
            self.flow.held = True
            self.flow.pause_reading()
            self._watch()

    def _watch(self) -> None:
        """While nothing is read, see whether the client is still there."""
        if not self._watched:
            self._watched = True
            self.loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._watched = False
        if self.transport.is_closing() or not (self._at_end or self._unread):
            return
        sends_no_more, has_gone = see_end(self.transport)
        if has_gone:
            self.transport.abort()
            return
        if sends_no_more and self._current is not None:
            self._begin_answer(self._current)
        self._watch()

    def _begin_answer(self, current: RequestResponseCycle) -> None:
        if not self._answer_begun and not current.response_started and self.scheme == "http":
            self._answer_begun = True
            self.transport = current.transport = BegunTransport(self.transport)  # type: ignore[assignment]

    def _rest_of_body(self) -> int:
        """Bytes to come of a body whose length was announced; else 0."""
        if self.in_head or self.cycle is None or not self.cycle.more_body:
            return 0
        announced = next((value for name, value in self.headers if name == b"content-length"), b"0")
        return int(announced) + self._body_began - self._body_bytes

    def _parse(self, data: bytes | memoryview) -> None:
        in_body = not self.in_head and self.cycle is not None and self.cycle.more_body
        body_bytes, self._began = self._body_bytes, False
        super().data_received(data)  # type: ignore[arg-type]
        if in_body:
            self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
        elif self._head_timer is not None and not self._began:  # else it may belong to the request before
            self._head_bytes += len(data)
        if self._refused:
            return
        if max(self._head_bytes, self._framing_bytes - _CHUNK * self._chunks) > MAX_HEAD:
            self._refuse_rest(b"431 Request Header Fields Too Large")
        else:
            self._see_what_is_wanted(in_body)

    def _see_what_is_wanted(self, in_body: bool) -> None:
        """Tell what this connection is at; `in_body`: it was in the middle of a body."""
        if self._waits():
            if in_body:
                self._connections.end_body(self)
        elif self.in_head or self.cycle is None or self.cycle.response_complete:
            self._connections.rest(self)
            if self._head_timer is None:
                self._expect_head()
        else:
            self._connections.receive(self)

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
        self._unread = memoryview(b"")
        self._share.give_back()
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
        self.flow.held = False
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
