"""Read the body of an HTTP request: bounded in size, in time, and in what all requests hold together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .budget import Share
from .compression import expand
from .errors import RequestError, SlowClientError, TooLargeError
from .waiting import ClientGoneError

Receive = Callable[[], Awaitable[Any]]

# After a refusal, what the client still sends is read and dropped for a while: closing at once would reset the
# connection, and the reset would overtake the answer.
_LINGER_SECONDS = 2.0


async def read_body(
    receive: Receive, headers: Mapping[str, str], limit: int, seconds: float, share: Share
) -> bytes:
    """The body, decompressed.

    Raises:
        TooLargeError: it is announced, or turns out, to be larger than `limit`.
        SlowClientError: it is not complete after `seconds`.
        OverloadedError: the share's budget is used up.
        ClientGoneError: the connection closed before its end.
    """
    _check_announced(headers.get("content-length"), limit)
    try:
        async with asyncio.timeout(seconds):
            body = await _receive(receive, limit, share)
    except TimeoutError as error:
        wanted = f"the whole body within {seconds:g} s"
        raise SlowClientError("a body that is not complete", wanted, "Send it faster.") from error
    coding = headers.get("content-encoding", "").lower()
    if not coding:
        return body
    out = await asyncio.to_thread(expand, body, coding, limit)
    share.take(len(out))
    return out


async def drop_rest(receive: Receive) -> None:
    """Read and drop what is still sent, for two seconds at most."""
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while (event := await receive())["type"] == "http.request" and event.get("more_body"):
                pass
    except TimeoutError:
        pass


async def wait_until_gone(receive: Receive) -> None:
    """Return once the client has gone; call it after the whole body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _check_announced(length: str | None, limit: int) -> None:
    if length is None:
        return
    if not (length.isascii() and length.isdigit()):
        raise RequestError(f"content-length {length[:40]!r}", "a number", "Correct the header.")
    if len(length) > 18 or int(length) > limit:
        raise TooLargeError(f"a body of {length[:18]} bytes", f"at most {limit}", "Send less at once.")


async def _receive(receive: Receive, limit: int, share: Share) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLargeError(f"a body of more than {limit} bytes", f"at most {limit}", "Send less at once.")
        share.take(len(chunk))
        chunks.append(chunk)
        if not event.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
