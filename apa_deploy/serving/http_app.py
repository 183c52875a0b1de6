"""The protocol over HTTP, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .access import check_token
from .budget import Share
from .compression import choose_coding, compress
from .errors import RequestError, ServingError
from .http_body import Receive, drop_rest, read_body, wait_until_gone
from .http_codec import HEADER_LENGTH, json_object, object_at
from .http_guard import PROBES
from .log import JsonLog
from .offload import Codec
from .parameters import count
from .request import trace_id
from .routes import Route, match_route
from .service import Service
from .tensors import Buffer
from .waiting import ClientGoneError

Send = Callable[[Any], Awaitable[None]]
Headers = dict[str, str]
Body = Sequence[Buffer]
Answer = tuple[int, Headers, Body]

_JSON = {"content-type": "application/json"}
_OPEN = ("live", "ready")  # probes carry no token
_PIECE = 1 << 18  # bytes that are handed to a connection at once, and must leave within the time limit
_ONE_PACKET = 1400  # bytes; compressing what fits one saves nothing
_GONE = 499  # in the log only: nobody is there to be told


class Call:
    """One request on its way; `share`: the memory that it and its answer hold, until the last byte is sent."""

    def __init__(self, scope: Any, receive: Receive, share: Share) -> None:
        self.share = share
        self.method, self.path, self.receive = scope["method"], scope["path"], receive
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.id = trace_id(self.headers.get("x-request-id"))
        self.model = ""
        self.body_is_read = False

    async def wait_until_gone(self) -> None:
        """Return once the client has gone; call it after the whole body was read."""
        await wait_until_gone(self.receive)


class HttpApp:
    """ASGI 3 application around a `Service`."""

    def __init__(self, service: Service, log: JsonLog) -> None:
        self._service, self._log, self._options = service, log, service.options
        self.codec = Codec()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        self._service.accepted += 1
        with self._service.budget.share() as share:
            call = Call(scope, receive, share)
            try:
                status, headers, body = await self._answer(call)
            except ClientGoneError:
                self._record(call, _GONE, start)
                return
            await self._send(call, send, status, headers, body)
        self._record(call, status, start)

    async def _answer(self, call: Call) -> Answer:
        """The answer, whatever happens."""
        try:
            wanted = match_route(call.method, call.path)
            if wanted.operation not in _OPEN:
                check_token(call.headers.get("authorization"), self._options.token)
            return await self._operate(call, wanted)
        except ServingError as error:
            return error.http, _JSON | error.headers, _document({"error": str(error)})
        except ClientGoneError:
            raise
        except Exception:  # noqa: BLE001  a fault of ours must not take the connection's other requests with it
            self._log.error("fault", request_id=call.id, path=call.path[:200], trace=traceback.format_exc())
            return 500, _JSON, _document({"error": f"internal error; the log says more under {call.id}"})

    async def _operate(self, call: Call, wanted: Route) -> Answer:
        call.model = wanted.model
        if wanted.operation == "infer":
            return await self._infer(call, wanted)
        if call.method == "POST":
            return await self._control(call, wanted)
        return self._read(wanted)

    def _read(self, wanted: Route) -> Answer:
        service = self._service
        match wanted.operation:
            case "live":
                return 200, _JSON, ()
            case "ready":
                return (200 if service.ready else 503), _JSON, ()
            case "model_ready":
                return (200 if service.model_ready(wanted.model, wanted.version) else 503), _JSON, ()
            case "server_metadata":
                return 200, _JSON, _document(service.server_metadata())
            case "regions":
                return 200, _JSON, _document(service.regions.status(wanted.model))
        operation = getattr(service, wanted.operation)
        return 200, _JSON, _document(operation(wanted.model, wanted.version))

    async def _control(self, call: Call, wanted: Route) -> Answer:
        body = await self._read_body(call)
        document = json_object(body) if body.strip() else {}
        if wanted.operation == "register":
            return self._register(wanted, document)
        if wanted.operation == "unregister":
            self._service.regions.unregister(wanted.model)
            return 200, _JSON, ()
        if wanted.operation == "index":
            return 200, _JSON, _document(self._service.index(ready=document.get("ready") is True))
        await getattr(self._service, wanted.operation)(wanted.model, object_at(document, "parameters"))
        return 200, _JSON, ()

    def _register(self, wanted: Route, document: dict[str, Any]) -> Answer:
        key, offset, size = document.get("key"), count(document, "offset") or 0, count(document, "byte_size") or 0
        if not isinstance(key, str):
            raise RequestError(f"key {str(key)[:40]!r}", "the name of a segment", "Correct the body.")
        self._service.regions.register(wanted.model, key, offset, size)
        return 200, _JSON, ()

    async def _infer(self, call: Call, wanted: Route) -> Answer:
        inputs = self._service.registry.get(wanted.model, wanted.version).signature.inputs
        only = inputs[0] if len(inputs) == 1 else None
        body = await self._read_body(call)
        limit, end = self._options.request_timeout, time.monotonic() + self._options.request_timeout
        request = await self.codec.decode(body, call.headers.get(HEADER_LENGTH), only, limit, call.wait_until_gone)
        del body  # the arrays are read from it, or are its only copy
        await self._service.regions.fetch(request, [spec.name for spec in inputs], call.share)
        call.id = trace_id(call.headers.get("x-request-id"), request.id, call.id)
        reply = await self._service.infer(wanted.model, wanted.version, request, call.wait_until_gone)
        parts, headers = await self.codec.encode(reply, max(0.0, end - time.monotonic()), call.wait_until_gone)
        coding = choose_coding(call.headers.get("accept-encoding"))
        if coding and sum(map(len, parts)) > _ONE_PACKET:
            headers = headers | {"content-encoding": coding}
            parts = [await asyncio.to_thread(compress, parts, coding)]
        call.share.take(sum(map(len, parts)))
        return 200, headers, parts

    async def _read_body(self, call: Call) -> bytes:
        options = self._options
        body = await read_body(call.receive, call.headers, options.max_request, options.read_timeout, call.share)
        call.body_is_read = True
        return body

    async def _send(self, call: Call, send: Send, status: int, headers: Headers, body: Body) -> None:
        size = sum(map(len, body))
        fields = headers | {"content-length": str(size), "x-request-id": call.id}
        lingers = call.method == "POST" and not call.body_is_read
        if lingers or self._service.draining:
            fields["connection"] = "close"
        encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        if size <= _PIECE and not lingers:
            await send({"type": "http.response.body", "body": b"".join(body)})
            return
        for part in body:
            for at in range(0, len(part), _PIECE):
                piece = bytes(part[at : at + _PIECE])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if lingers:
            await drop_rest(call.receive)
        await send({"type": "http.response.body", "body": b""})  # returns when the pieces before have left

    def _record(self, call: Call, status: int, start: float) -> None:
        self._service.answered += 1
        self._service.codes["http", str(status)] += 1
        if self._options.log_requests and not (status == 200 and call.path.startswith(PROBES)):
            ms = round((time.perf_counter() - start) * 1e3, 3)
            fields = {
                "protocol": "http",
                "method": call.method,
                "path": call.path[:200],
                "status": status,
                "ms": ms,
            }
            self._log.info("request", request_id=call.id, **fields)


def _document(value: Any) -> Body:
    return (json.dumps(value).encode(),)
