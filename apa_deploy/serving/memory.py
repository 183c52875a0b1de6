"""Give memory back to the system after a burst; the C library alone keeps what it once had."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes

from .budget import Budget

_LOOK = 5.0  # seconds
_BURST = 64 << 20  # bytes


async def give_back(budget: Budget) -> None:
    """For ever: after requests have held much memory and let it go, hand it on."""
    while True:
        await asyncio.sleep(_LOOK)
        if budget.peak > _BURST and budget.held < budget.peak / 4:
            budget.peak = budget.held
            with contextlib.suppress(OSError, AttributeError):  # musl has no such call, and keeps less
                await asyncio.to_thread(ctypes.CDLL(None).malloc_trim, 0)
