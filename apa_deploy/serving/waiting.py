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


async def settle(future: asyncio.Future[T], limit: float, gone: Callable[[], Awaitable[None]] | None = None) -> T:
    """The result of `future`; on any other end the future is cancelled.

    It is awaited itself, and ended by timers: `asyncio.wait` would cost every request a second future.

    Args:
        limit: seconds.
        gone: returns once the client has gone; None where cancellation says so.

    Raises:
        TimedOutError: `limit` has passed.
        ClientGoneError: `gone` returned first.
    """
    loop = asyncio.get_running_loop()
    reasons: list[Exception] = []
    watches: list[asyncio.Task[None]] = []

    def end(reason: Exception) -> None:
        if not future.done():
            reasons.append(reason)
            future.cancel()

    def watch(gone: Callable[[], Awaitable[None]]) -> None:
        watches.append(loop.create_task(_then(gone, lambda: end(ClientGoneError()))))

    timers = [loop.call_later(limit, lambda: end(TimedOutError(limit)))]
    if gone and limit > _UNWATCHED:
        timers.append(loop.call_later(_UNWATCHED, watch, gone))
    try:
        return await future
    except asyncio.CancelledError:
        if reasons:
            raise reasons.pop() from None
        raise
    finally:
        # what is raised holds on to this frame: were it to hold on to that, neither would ever go
        future = None  # type: ignore[assignment]
        for timer in timers:
            timer.cancel()
        for task in watches:
            task.cancel()


async def _then(first: Callable[[], Awaitable[None]], second: Callable[[], None]) -> None:
    await first()
    second()
