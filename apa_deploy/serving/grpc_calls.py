"""The calls that are open over gRPC: how many there may be, and which go first.

A call is open before its message is there. Without it, it is idle, and so is a stream between two messages: where
there are too many calls, the longest idle is ended, and all of them are where the server closes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError

from .callers import AwaitedMessage, Callers
from .errors import OverloadedError, RequestError, ServingError, SlowClientError


class Calls:
    """A share of the calls.

    Args:
        limit: of those open at once.
        seconds: within which the message of a call must have arrived.
        codes: where refusals are counted.
        callers: where those who call are known.
    """

    def __init__(self, limit: int, seconds: float, codes: Counter[tuple[str, str]], callers: Callers) -> None:
        self.limit, self.open = limit, 0
        self._seconds, self._codes, self._callers = seconds, codes, callers
        self._idle: dict[AwaitedMessage, None] = {}  # the longest idle in front

    def handle_unary(self, behaviour: Callable[[Any, Any], Awaitable[Any]], request: Any, response: Any) -> Any:
        """gRPC's handler of calls with one message; `request` and `response`: the types of the messages."""

        async def call(_: Any, context: Any) -> Any:
            message = await self.begin(context)
            return None if message is None else await behaviour(message, context)

        # to the client it is the same; here, the message is read when there is room for the call, and not for ever
        return grpc.stream_unary_rpc_method_handler(call, decoder(request), response.SerializeToString)

    async def begin(self, context: Any) -> Any:
        """Count a call until its status has left, and return its message; None: it was refused."""
        try:
            self.enter(context)
            message = await self.read(context, self._seconds)
        except ServingError as error:
            self._codes["grpc", error.grpc] += 1
            await refuse(context, error)
            return None
        return DecodeError("there is none") if message is None else message

    def enter(self, context: Any) -> None:
        """Count a call until its status has left.

        Raises:
            OverloadedError: there are too many, and none of them is idle.
        """
        if self.open >= self.limit and not self.end_idle(1):
            raise OverloadedError(f"{self.limit} calls", "a free place")
        self.open += 1
        self._callers.enter(context)
        context.add_done_callback(self._leave)

    async def read(self, context: Any, seconds: float | None = None) -> Any:
        """The next message, None at the end.

        Raises:
            SlowClientError: it has not arrived after so many seconds.
            OverloadedError: its place, or the memory, was wanted for others.
        """
        caller, read = self._callers.of(context), AwaitedMessage(seconds)
        self._idle[read] = caller.reads[read] = None
        try:
            async with read.timeout:
                received = await context.read()
        except TimeoutError as error:
            if read.reasons:
                raise read.reasons.pop() from error
            saw = f"no whole message after {seconds:g} s"
            raise SlowClientError(saw, "one within the time limit", "Send it faster.") from error
        finally:
            self._idle.pop(read, None)
            del caller.reads[read]
        if received is grpc.aio.EOF:
            return None
        message, size = received
        self._callers.finish(caller, size)
        return message

    def end_idle(self, count: int | None = None, reason: ServingError | None = None) -> bool:
        """End the `count` longest idle (None: all), for `reason` or for their place; whether there was one."""
        oldest = [read for read in islice(self._idle, count) if not read.timeout.expired()]
        for read in oldest:
            del self._idle[read]
            read.end(reason or OverloadedError(f"{self.limit} calls, this one without a message", "fewer"))
        return bool(oldest)

    def _leave(self, _: Any) -> None:
        self.open -= 1


async def refuse(context: Any, error: ServingError) -> None:
    """End a call with the status of `error`; its handler has no more to say, and returns."""
    await end_call(context, error.grpc, str(error), tuple(error.headers.items()))


async def end_call(context: Any, code: str, text: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    """End a call with a status.

    The call keeps the error that grpc raises, and with it the frames, and the message there: a circle that would
    stay until the garbage collector comes by. So the error forgets where it came from.
    """
    try:
        await context.abort(grpc.StatusCode[code], text, trailing_metadata=metadata)
    except grpc.aio.AbortError as ended:
        ended.__context__ = None
        ended.with_traceback(None)


def decoder(message: Any) -> Callable[[bytes], tuple[Any, int]]:
    """Reads a message and its size in bytes.

    grpc answers UNKNOWN to what a decoder raises; so the error is handed on, and refused as malformed.
    """

    def decode_or_error(data: bytes) -> tuple[Any, int]:
        try:
            return message.FromString(data), len(data)
        except Exception as error:  # noqa: BLE001  what it raises otherwise would end a stream without a word
            return DecodeError(str(error)), len(data)  # a new one, for that one holds on to the frame and the data

    return decode_or_error


def check_decoded(request: Any) -> None:
    """Raise `RequestError` where the message could not be read."""
    if isinstance(request, DecodeError):
        raise RequestError(f"a message that cannot be read ({request})", "one of the protocol", "Correct it.")
