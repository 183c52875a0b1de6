"""apa-serve's HTTP protocol on Ray Serve: replicas of one model repository behind Ray's proxies.

serve run apa_deploy.serving.ray_app:application source=/models max_replicas=8
"""

# No `from __future__ import annotations`: Ray reads the type of `application`'s argument.

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..require import require
from .http_app import HttpApp, Send
from .log import JsonLog
from .options import ServeOptions
from .registry import Registry
from .service import Service

_CONTROL = "/v2/repository/models/"
Receive = Callable[[], Awaitable[Any]]


class RayOptions(BaseModel):
    """`source`: a file or folder as apa-serve takes it, at the same path on every node. Times in seconds.

    `target_requests`: in flight a replica, above which Ray adds one; `max_requests`: above which it sends no more;
    `max_queued`: that wait in a proxy, above which it answers 503. `threads`: of the runtime; a replica reserves as
    many cores.
    """

    model_config = ConfigDict(extra="forbid")

    source: Path
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(4, ge=1)
    target_requests: int = Field(8, ge=1)
    max_requests: int = Field(64, ge=1)
    max_queued: int = Field(256, ge=1)
    max_batch: int = Field(32, ge=0)
    batch_delay: float = Field(0.0, ge=0)
    threads: int = Field(1, ge=1)
    drain_timeout: float = Field(30.0, ge=0)


def application(options: RayOptions) -> Any:
    """A Ray Serve application, for `serve run`, `serve deploy` or `ray.serve.run`.

    Raises:
        MissingError: Ray Serve is not installed.
    """
    serve = require("ray.serve")
    own = ServeOptions(
        source=options.source,
        max_batch=options.max_batch,
        batch_delay=options.batch_delay,
        threads=options.threads,
        queue=options.max_requests,
        drain_timeout=options.drain_timeout,
    )

    def replica() -> ReplicaApp:
        return ReplicaApp(own)

    deployment = serve.deployment(
        serve.ingress(replica)(),
        name="apa-serve",
        ray_actor_options={"num_cpus": options.threads},
        max_ongoing_requests=options.max_requests,
        max_queued_requests=options.max_queued,
        graceful_shutdown_timeout_s=options.drain_timeout,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.target_requests,
        },
    )
    return deployment.bind()


class ReplicaApp:
    """ASGI 3: loads the models when it starts, answers when they are loaded, drains when it ends."""

    def __init__(self, options: ServeOptions) -> None:
        self._options, self._log = options, JsonLog()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"].startswith(_CONTROL):
            await _refuse(send)
        else:
            await self._http(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        registry = Registry(self._options, self._log)
        service = Service(registry, self._options)
        self._http = HttpApp(service, self._log)
        errors = await registry.load_all()
        if errors:
            await send({"type": "lifespan.startup.failed", "message": str(errors[0])})
            return
        watching = asyncio.create_task(registry.watch())
        service.started = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        service.draining = True
        watching.cancel()
        await registry.retire_all()
        await send({"type": "lifespan.shutdown.complete"})


async def _refuse(send: Send) -> None:
    """Load and unload calls would reach one replica of many; replaced files reach all of them."""
    body = json.dumps({"error": "load and unload reach one replica alone; replace the files instead"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 501, "headers": headers})
    await send({"type": "http.response.body", "body": body})
