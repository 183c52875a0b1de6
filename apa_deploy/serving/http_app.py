"""The protocol over HTTP, as an ASGI application."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from .access import check_token
from .compression import accepted, compressed
from .errors import ServingError
from .http_body import Receive, disconnected, drop_rest, read_body
from .http_codec import HEADER_LENGTH, decode, encode, json_object, object_at
from .log import JsonLog
from .request import trace_id
from .routes import Target, target
from .service import Service
from .waiting import ClientGoneError

Send = Callable[[Any], Awaitable[None]]
Headers = dict[str, str]
Answer = tuple[int, Headers, bytes]

_JSON = {"content-type": "application/json"}
_OPEN = ("live", "ready")  # probes carry no token
_PROBES = "/v2/health/"  # asked every few seconds: those that succeed are not logged
_ONE_PACKET = 1400  # bytes; compressing what fits one saves nothing
_GONE = 499  # in the log only: nobody is there to be told


class Call:
    """One request on its way."""

    def __init__(self, scope: Any, receive: Receive) -> None:
        self.method, self.path, self.receive = scope["method"], scope["path"], receive
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.id = trace_id(self.headers.get("x-request-id"))
        self.model = ""
        self.body_is_read = False


class HttpApp:
    """ASGI 3 application around a `Service`."""

    def __init__(self, service: Service, log: JsonLog) -> None:
        self._service, self._log, self._options = service, log, service.options

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        call = Call(scope, receive)
        self._service.accepted += 1
        try:
            status, headers, body = await self._answered(call)
        except ClientGoneError:
            self._record(call, _GONE, start)
            return
        await self._send(call, send, status, headers, body)
        self._record(call, status, start)

    async def _answered(self, call: Call) -> Answer:
        """The answer, whatever happens."""
        try:
            wanted = target(call.method, call.path)
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

    async def _operate(self, call: Call, wanted: Target) -> Answer:
        call.model = wanted.model
        if wanted.operation == "infer":
            return await self._infer(call, wanted)
        if call.method == "POST":
            return await self._control(call, wanted)
        return self._read(wanted)

    def _read(self, wanted: Target) -> Answer:
        service = self._service
        match wanted.operation:
            case "live":
                return 200, _JSON, b""
            case "ready":
                return (200 if service.ready else 503), _JSON, b""
            case "model_ready":
                return (200 if service.model_ready(wanted.model, wanted.version) else 503), _JSON, b""
            case "server_metadata":
                return 200, _JSON, _document(service.server_metadata())
        operation = getattr(service, wanted.operation)
        return 200, _JSON, _document(operation(wanted.model, wanted.version))

    async def _control(self, call: Call, wanted: Target) -> Answer:
        with self._service.budget.share() as share:
            body = await self._body(call, share)
        document = json_object(body) if body.strip() else {}
        if wanted.operation == "index":
            return 200, _JSON, _document(self._service.index(ready=document.get("ready") is True))
        await getattr(self._service, wanted.operation)(wanted.model, object_at(document, "parameters"))
        return 200, _JSON, b""

    async def _infer(self, call: Call, wanted: Target) -> Answer:
        self._service.registry.get(wanted.model, wanted.version)  # a body for no model need not be read
        with self._service.budget.share() as share:
            request = decode(await self._body(call, share), call.headers.get(HEADER_LENGTH))
            call.id = trace_id(call.headers.get("x-request-id"), request.id, call.id)
            reply = await self._service.infer(
                wanted.model, wanted.version, request, lambda: disconnected(call.receive)
            )
            body, headers = encode(reply)
        coding = accepted(call.headers.get("accept-encoding"))
        if coding and len(body) > _ONE_PACKET:
            return 200, headers | {"content-encoding": coding}, compressed(body, coding)
        return 200, headers, body

    async def _body(self, call: Call, share: Any) -> bytes:
        options = self._options
        body = await read_body(call.receive, call.headers, options.max_request, options.read_timeout, share)
        call.body_is_read = True
        return body

    async def _send(self, call: Call, send: Send, status: int, headers: Headers, body: bytes) -> None:
        fields = headers | {"content-length": str(len(body)), "x-request-id": call.id}
        lingers = call.method == "POST" and not call.body_is_read
        if lingers or self._service.draining:
            fields["connection"] = "close"
        encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body, "more_body": lingers})
        if lingers:
            await drop_rest(call.receive)
            await send({"type": "http.response.body", "body": b""})

    def _record(self, call: Call, status: int, start: float) -> None:
        self._service.answered += 1
        self._service.codes["http", str(status)] += 1
        if self._options.log_requests and not (status == 200 and call.path.startswith(_PROBES)):
            ms = round((time.perf_counter() - start) * 1e3, 3)
            fields = {
                "protocol": "http",
                "method": call.method,
                "path": call.path[:200],
                "status": status,
                "ms": ms,
            }
            self._log.info("request", request_id=call.id, **fields)


def _document(value: Any) -> bytes:
    return json.dumps(value).encode()
