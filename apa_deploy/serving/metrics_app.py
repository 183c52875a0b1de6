"""`/metrics` on a port of its own, as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from .access import check_token
from .errors import MethodError, NotFoundError, ServingError


class MetricsApp:
    """ASGI 3 application that answers `GET` and `HEAD /metrics`; with a token, where the server has one."""

    def __init__(self, registry: CollectorRegistry, token: str | None) -> None:
        self._registry, self._token = registry, token

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        status, headers, body = self._answer(scope)
        headers["content-length"] = str(len(body))
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Any) -> tuple[int, dict[str, str], bytes]:
        authorization = next((v.decode("latin-1") for n, v in scope["headers"] if n == b"authorization"), None)
        try:
            if scope["path"] != "/metrics":
                raise NotFoundError(scope["path"][:80], "/metrics", "Ask for /metrics.")
            if scope["method"] not in ("GET", "HEAD"):
                raise MethodError(scope["method"], "GET")
            check_token(authorization, self._token)
        except ServingError as error:
            return error.http, {"content-type": "text/plain", **error.headers}, f"{error}\n".encode()
        return 200, {"content-type": CONTENT_TYPE_LATEST}, generate_latest(self._registry)
