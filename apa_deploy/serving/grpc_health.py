"""`grpc.health.v1.Health`, which Kubernetes' gRPC probes and load balancers ask; no token is wanted.

A service is "" or the inference service's name (the server's readiness), or the name of a model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from .errors import NotFoundError, ServingError
from .grpc_calls import Calls, check_decoded, decoder, refuse
from .service import Service

_PACKAGE = "grpc.health.v1"
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3
_SERVER = ("", "inference.GRPCInferenceService")
_LOOK = 0.2  # seconds between two looks for a watcher


def _messages() -> tuple[Any, Any]:
    """Request and response, as published; in a pool of our own, for the package of them may be there too."""
    file = descriptor_pb2.FileDescriptorProto(name="health.proto", package=_PACKAGE, syntax="proto3")
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=9, label=1)
    response = file.message_type.add(name="HealthCheckResponse")
    response.field.add(name="status", number=1, type=5, label=1)  # an enumeration travels as an integer
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("HealthCheckRequest", "HealthCheckResponse")
    found = [GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in names]
    return found[0], found[1]


async def check_probe(request: Any, context: Any) -> bool:
    """Whether a probe's message could be read; else it is refused."""
    try:
        check_decoded(request)
    except ServingError as error:
        await refuse(context, error)
        return False
    return True


def health_handlers(service: Service, probes: Calls, watches: Calls) -> Any:
    """The handlers of the health service, with the places for its two kinds of calls."""
    request_type, response_type = _messages()

    async def check(request: Any, context: Any) -> Any:
        if not await check_probe(request, context):
            return None
        try:
            return response_type(status=_status(service, request.service))
        except NotFoundError as error:
            return await refuse(context, error)

    async def watch(_: Any, context: Any) -> AsyncIterator[Any]:
        request, last = await watches.begin(context), 0
        if request is None or not await check_probe(request, context):
            return
        while not service.closing.is_set():
            try:
                status = _status(service, request.service)
            except NotFoundError:
                status = _UNKNOWN
            if status != last:
                yield response_type(status=status)
            last = status
            await asyncio.sleep(_LOOK)
        if last != _NOT_SERVING:
            yield response_type(status=_NOT_SERVING)

    coding = decoder(request_type), response_type.SerializeToString
    handlers = {
        "Check": probes.handle_unary(check, request_type, response_type),
        "Watch": grpc.stream_stream_rpc_method_handler(watch, *coding),
    }
    return grpc.method_handlers_generic_handler(f"{_PACKAGE}.Health", handlers)


def _status(service: Service, name: str) -> int:
    if name in _SERVER:
        return _SERVING if service.ready else _NOT_SERVING
    try:
        return _SERVING if service.model_ready(name, "") else _NOT_SERVING
    except NotFoundError:
        raise
    except ServingError:
        return _NOT_SERVING
