"""Large messages are read and written beside the event loop, which nothing else may hold up.

Python's JSON reads and writes a document in one step that lets no other thread run: 60 MB stop everything for a
second. So large JSON goes to a process of its own, started when first needed. What Python itself loops over goes to
a thread, with which the event loop takes turns.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from ..tensors.signature import TensorSpec
from . import http_codec
from .child import Child, ChildError
from .errors import ExecutionError
from .request import InferReply, InferRequest
from .waiting import settle

# What takes about 10 ms on one core: bytes to read, values to write.
LARGE_BYTES, LARGE_COUNT = 1 << 18, 1 << 14

Gone = Callable[[], Awaitable[None]]


class Codec:
    """`http_codec`, beside the event loop where a message is large."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._one_at_a_time = asyncio.Lock()

    async def decode(
        self, body: bytes, header_length: str | None, only: TensorSpec | None, limit: float, gone: Gone
    ) -> InferRequest:
        """As `http_codec.decode`; within `limit` seconds, and for as long as the client has not `gone`.

        Raises:
            RequestError: as there.
            TimedOutError, ClientGoneError: as `settle`.
            ExecutionError: the process ended, as when memory runs out.
        """
        end = http_codec.json_end(header_length, len(body))
        strings = b"BYTES" in body[:end] or (end == 0 and only is not None and only.datatype.dtype.kind == "O")
        if len(body) <= LARGE_BYTES or (end <= LARGE_BYTES and not strings):
            return http_codec.decode(body, header_length, only)
        asking = self._ask_in_turn("decode", pickle.PickleBuffer(body), header_length, only)
        request: InferRequest = await settle(asyncio.ensure_future(asking), limit, gone)
        return request

    async def encode(self, reply: InferReply, limit: float, gone: Gone) -> tuple[list[Any], dict[str, str]]:
        """As `http_codec.encode`; the rest as in `decode`."""
        values = sum(a.size for wanted, a in reply.outputs if not wanted.binary or a.dtype.kind == "O")
        if values <= LARGE_COUNT:
            return http_codec.encode(reply)
        asking = self._ask_in_turn("encode", reply)
        encoded: tuple[list[Any], dict[str, str]] = await settle(asyncio.ensure_future(asking), limit, gone)
        return encoded

    async def _ask_in_turn(self, name: str, *arguments: Any) -> Any:
        """Cancelled, it does not come to its turn; or the process ends, and the next one gets a new one."""
        await self._one_at_a_time.acquire()
        abandoned = threading.Event()
        asking = asyncio.ensure_future(asyncio.to_thread(self._ask, name, arguments, abandoned))
        asking.add_done_callback(self._end_turn)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            abandoned.set()
            self.close()
            raise

    def _end_turn(self, asked: asyncio.Future[Any]) -> None:
        self._one_at_a_time.release()
        if not asked.cancelled():
            asked.exception()  # nobody may wait for it any more

    def _ask(self, name: str, arguments: tuple[Any, ...], abandoned: threading.Event) -> Any:
        try:
            if self._child is None or not self._child.is_running:
                self._child = Child(f"{__name__}:open_codec")
            if not abandoned.is_set():
                return self._child.call(name, *arguments)
            self._child.close()  # it may be about to end
        except ChildError as error:
            do = "Send large tensors in binary."
            raise ExecutionError(f"JSON: {error.reason}", "a body of fewer values", do) from error

    def close(self) -> None:
        """End the process, where there is one."""
        if self._child:
            self._child.kill()


def open_codec() -> tuple[None, Callable[..., Any]]:
    """In the process."""

    def decode(body: memoryview, header_length: str | None, only: TensorSpec | None) -> InferRequest:
        return http_codec.decode(bytes(body), header_length, only)

    def encode(reply: InferReply) -> Any:
        parts, headers = http_codec.encode(reply)
        return list(map(pickle.PickleBuffer, parts)), headers

    functions: dict[str, Callable[..., Any]] = {"decode": decode, "encode": encode}
    return None, lambda name, *arguments: functions[name](*arguments)
