"""The protocol over gRPC: the published messages around a `Service`."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb

from .access import check_token
from .budget import Share
from .callers import Callers
from .connections import RESERVE
from .errors import OverloadedError, ServingError, UnavailableError, UnsupportedError
from .grpc_calls import Calls, check_decoded, decoder, end_call, refuse
from .grpc_codec import decode, encode, values
from .grpc_health import check_probe, health_handlers
from .log import JsonLog
from .offload import LARGE_BYTES, LARGE_COUNT
from .request import trace_id
from .service import Service

_IDLE_MS = 300_000  # clients connect again by themselves
_PROBES = ("ServerLive", "ServerReady")
_WATCHES = 256  # of health; each is looked after five times a second
_LOOK = 0.02  # seconds between two looks whether calls are open

Handler = Callable[["GrpcApp", Any, Any], Awaitable[Any]]


def operation(method: Handler) -> Handler:
    """A unary call: token checked, refusals turned into status codes, one line in the log."""

    @wraps(method)
    async def call(self: GrpcApp, request: Any, context: Any) -> Any:
        start, code = time.perf_counter(), "CANCELLED"
        self.service.accepted += 1
        try:
            self.check_token(context)
            self.check_open()
            check_decoded(request)
            reply = await method(self, request, context)
            code = "OK"
            return reply
        except ServingError as error:
            code = error.grpc
            await refuse(context, error)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001  a fault of ours is an answer, not the end of the server
            code = "INTERNAL"
            self.log.error("fault", rpc=method.__name__, trace=traceback.format_exc())
            await end_call(context, code, "internal error; the log says more")
        finally:
            self.record(method.__name__, request, code, start)

    return call


def _closing() -> UnavailableError:
    return UnavailableError("a server that is closing", "another one", "Try again elsewhere.")


class GrpcApp:
    """The inference service: a method for each of its calls. A request is a message, or `DecodeError`."""

    def __init__(self, service: Service, log: JsonLog) -> None:
        self.service, self.log = service, log
        options, codes = service.options, service.codes
        self.callers = Callers(service.budget, options.max_request, options.read_timeout)
        self.calls, self.probes, self.watches = (
            Calls(limit, options.read_timeout, codes, self.callers)
            for limit in (options.max_connections, RESERVE, _WATCHES)
        )

    async def no_call(self) -> None:
        """End the calls that are idle, and return once none is open."""
        shares = (self.calls, self.probes, self.watches)
        while any(share.open for share in shares):
            for share in shares:
                share.end_idle(reason=_closing())
            await asyncio.sleep(_LOOK)

    def check_token(self, context: Any) -> None:
        """Raise `UnauthorizedError` unless the call carries the server's token."""
        if self.service.options.token is not None:
            metadata = dict(context.invocation_metadata() or ())
            check_token(metadata.get("authorization"), self.service.options.token)

    def check_open(self) -> None:
        """Raise `UnavailableError`, which clients take as an advice to go elsewhere, once the server closes.

        HTTP says the same by closing the connection after an answer; gRPC has no such word for one call.
        """
        if self.service.closing.is_set():
            raise _closing()

    def record(self, rpc: str, request: Any, code: str, start: float) -> None:
        """Count and log the end of a call."""
        self.service.answered += not (code == "CANCELLED" and self.service.cutting)
        self.service.codes["grpc", code] += 1
        if self.service.options.log_requests:
            ms = round((time.perf_counter() - start) * 1e3, 3)
            model = getattr(request, "model_name", "") or getattr(request, "name", "")
            fields = {"protocol": "grpc", "rpc": rpc, "model": model[:80], "status": code, "ms": ms}
            self.log.info("request", request_id=trace_id(getattr(request, "id", "")), **fields)

    # Probes carry no token.

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerLiveResponse(live=True) if await check_probe(request, context) else None

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerReadyResponse(ready=self.service.ready) if await check_probe(request, context) else None

    @operation
    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            ready = self.service.model_ready(request.name, request.version)
        except ServingError:
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    @operation
    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return ParseDict(self.service.server_metadata(), pb.ServerMetadataResponse())

    @operation
    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return ParseDict(self.service.model_metadata(request.name, request.version), pb.ModelMetadataResponse())

    @operation
    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        document = {"config": self.service.model_config(request.name, request.version)}
        return ParseDict(document, pb.ModelConfigResponse())

    @operation
    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        return ParseDict(self.service.statistics(request.name, request.version), pb.ModelStatisticsResponse())

    @operation
    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        return ParseDict({"models": self.service.index(ready=request.ready)}, pb.RepositoryIndexResponse())

    @operation
    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.service.load(request.model_name, values(request.parameters))
        return pb.RepositoryModelLoadResponse()

    @operation
    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.service.unload(request.model_name, values(request.parameters))
        return pb.RepositoryModelUnloadResponse()

    @operation
    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        share = self.service.budget.share()
        context.add_done_callback(lambda _: share.give_back())  # once the client has taken the answer, or is gone
        return await self._infer(request, share)

    async def ModelStreamInfer(self, requests: Any, context: Any) -> None:  # noqa: N802
        """Each request is answered in turn; a refusal is a message, so that the stream goes on."""
        try:
            self.calls.enter(context)
            self.check_token(context)
            self.check_open()
            while (request := await self._read_next(context)) is not None:
                with self.service.budget.share() as share:
                    await context.write(await self._answer_in_stream(request, share))
        except ServingError as error:
            await refuse(context, error)

    async def _read_next(self, context: Any) -> Any:
        """The next message of a stream; None at its end, which comes when the server closes at the latest."""
        closing = self.service.closing
        try:
            return None if closing.is_set() else await self.calls.read(context)
        except OverloadedError:
            if closing.is_set():
                return None
            raise

    async def _answer_in_stream(self, request: Any, share: Share) -> Any:
        start, code = time.perf_counter(), "OK"
        self.service.accepted += 1
        try:
            check_decoded(request)
            return pb.ModelStreamInferResponse(infer_response=await self._infer(request, share))
        except ServingError as error:
            code = error.grpc
            reply = pb.ModelStreamInferResponse(error_message=str(error))
            reply.infer_response.id = getattr(request, "id", "")
            return reply
        finally:
            self.record("ModelStreamInfer", request, code, start)

    async def _infer(self, request: Any, share: Share) -> Any:
        """The answer; it and the request count as memory until `share` is given back."""
        share.take(size := request.ByteSize())
        decoded = await asyncio.to_thread(decode, request) if size > LARGE_BYTES else decode(request)
        if decoded.stored:
            inputs = self.service.registry.get(request.model_name, request.model_version).signature.inputs
            await self.service.regions.fetch(decoded, [spec.name for spec in inputs], share)
        reply = await self.service.infer(request.model_name, request.model_version, decoded)
        strings = sum(array.size for _, array in reply.outputs if array.dtype.kind == "O")
        message = await asyncio.to_thread(encode, reply) if strings > LARGE_COUNT else encode(reply)
        share.take(message.ByteSize())
        return message

    @operation
    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = self.service.regions.status(request.name)
        return ParseDict({"regions": {one["name"]: one for one in found}}, pb.SystemSharedMemoryStatusResponse())

    @operation
    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.service.regions.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    @operation
    async def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.service.regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    @operation
    async def _refuse_operation(self, request: Any, context: Any) -> Any:
        raise UnsupportedError(type(request).__name__, "an operation of the core protocol", "See docs/serving.md.")

    CudaSharedMemoryStatus = CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _refuse_operation
    TraceSetting = LogSettings = _refuse_operation


def grpc_server(app: GrpcApp, credentials: Any, address: str, connections: int) -> tuple[Any, int]:
    """A server of `app` bound to `address`, of at most so many connections, and its port.

    Raises:
        RuntimeError: the address cannot be bound.
    """
    options = app.service.options
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", options.max_request),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.max_allowed_incoming_connections", connections),  # idle ones make room for more (descriptors.py)
            # a connection that shakes no hands, that asks nothing, or whose client does not answer goes
            ("grpc.server_handshake_timeout_ms", round(options.read_timeout * 1000)),
            ("grpc.max_connection_idle_ms", _IDLE_MS),
            ("grpc.keepalive_time_ms", round(options.write_timeout * 1000)),
            ("grpc.keepalive_timeout_ms", round(options.write_timeout * 1000)),
        ),
    )
    server.add_generic_rpc_handlers((_handlers(app), health_handlers(app.service, app.probes, app.watches)))
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    return server, bound


def _handlers(app: GrpcApp) -> Any:
    """Handlers of every call of the service, from its descriptor."""
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    return grpc.method_handlers_generic_handler(
        service.full_name, {m.name: _handler(app, m) for m in service.methods}
    )


def _handler(app: GrpcApp, method: Any) -> Any:
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    behaviour = getattr(app, method.name)
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(behaviour, decoder(request), response.SerializeToString)
    calls = app.probes if method.name in _PROBES else app.calls
    return calls.handle_unary(behaviour, request, response)
