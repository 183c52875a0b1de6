"""Give memory back to the system after a burst; the C library alone keeps what it once had."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes

from .budget import Budget

_LOOK = 5.0  # seconds
_BURST = 8 << 20  # bytes
_ARENA_MAX = -8  # mallopt's M_ARENA_MAX


def keep_one_arena() -> None:
    """Have glibc keep one arena; before the first thread asks for another.

    By default each of gRPC's threads gets its own, and what is free at the end of such a one goes back to the
    system only as the same thread frees more: 225 MiB after 25 messages of 20 MiB, where one arena keeps 20.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


async def give_back(budget: Budget) -> None:
    """For ever: after requests have held much memory, hand it on as soon as they hold less for a while."""
    most = 0
    while True:
        await asyncio.sleep(_LOOK)
        peak, budget.peak = budget.peak, budget.taken
        most = max(most, peak)
        if most > _BURST and peak < most / 4:
            most = peak
            with contextlib.suppress(OSError, AttributeError):  # musl has no such call, and keeps less
                await asyncio.to_thread(ctypes.CDLL(None).malloc_trim, 0)
