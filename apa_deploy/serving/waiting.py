"""Wait for a result no longer than a time limit, or until the one who asked has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import TimedOutError

T = TypeVar("T")

# A result within this time needs no watch on the connection, which would cost every request a task.
_UNWATCHED = 0.02


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


async def settled(future: asyncio.Future[T], limit: float, gone: Callable[[], Awaitable[None]] | None = None) -> T:
    """The result of `future`; on any other end the future is cancelled.

    Args:
        limit: seconds.
        gone: returns once the client has gone; None where cancellation says so.

    Raises:
        TimedOutError: `limit` has passed.
        ClientGoneError: `gone` returned first.
    """
    try:
        await asyncio.wait((future,), timeout=min(limit, _UNWATCHED) if gone else limit)
        if not future.done() and gone and limit > _UNWATCHED:
            await _watched(future, limit - _UNWATCHED, gone)
        if not future.done():
            raise TimedOutError(limit)
        return future.result()
    finally:
        future.cancel()


async def _watched(future: asyncio.Future[T], limit: float, gone: Callable[[], Awaitable[None]]) -> None:
    watch = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((future, watch), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if watch.done() and not future.done():
            raise ClientGoneError
    finally:
        watch.cancel()
