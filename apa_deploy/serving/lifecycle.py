"""Start, run and stop: bind, load, be ready; on SIGTERM answer what was accepted, then exit 0."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]
import uvicorn

from ..errors import ApaError, InputError
from .access import is_loopback
from .grpc_app import GrpcApp, grpc_server
from .http_app import HttpApp
from .http_guard import GuardedProtocol
from .log import Forward, JsonLog
from .metrics import metrics_registry
from .metrics_app import MetricsApp
from .options import ServeOptions
from .registry import Registry
from .service import Service

_BACKLOG = 1024
_KEEP_ALIVE = 75  # seconds; longer than the minute for which load balancers keep idle connections
_LOST = 1
_QUIET, _QUIET_AT_MOST = 0.1, 1.0  # seconds without a request, at the end of which connections close
_MARGIN = 5  # seconds by which the protocols' own limits lie behind ours, which counts what is lost


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handling: the signals are ours."""

    def stop_listening(self) -> None:
        """Take no new connections; those that are open go on."""
        for server in self.servers:
            server.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Running:
    """The parts of a server that runs."""

    def __init__(self, options: ServeOptions, log: JsonLog) -> None:
        self.options, self.log = options, log
        self.registry = Registry(options, log)
        self.service = Service(self.registry, options)
        self.stop = asyncio.Event()
        self.force = asyncio.Event()
        self.http: list[tuple[QuietServer, asyncio.Task[None]]] = []
        self.grpc: Any = None
        self.background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bind every port, load every model, then be ready.

        Raises:
            ApaError: a port is taken, or a model does not load and `keep_going` is not set.
        """
        ports = await self._listen()
        errors = await self.registry.load_all()
        if errors and not self.options.keep_going:
            raise errors[0]
        if self.options.reload_interval:
            self.background.append(asyncio.create_task(self.registry.watch()))
        self.service.started = True
        models = [f"{model.name}/{model.version}" for model in self.registry.loaded()]
        self.log.info("ready", host=self.options.host, **ports, models=models)
        if not is_loopback(self.options.host) and not self.options.tls_cert:
            self.log.warning("exposed", host=self.options.host, notice="requests and tokens travel unencrypted")

    async def drain(self) -> bool:
        """Stop taking requests, answer those accepted; whether all were answered."""
        start = time.perf_counter()
        self.service.draining = True
        self.log.info("draining", seconds=self.options.drain_timeout)
        await self._unless_forced(asyncio.sleep(self.options.drain_delay))
        await self._unless_forced(self._quiet())
        await self._unless_forced(self._close_fronts())
        lost = self.service.accepted - self.service.answered
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.registry.retire_all(), None if not lost else 1)
        self.log.info("drained", accepted=self.service.accepted, lost=lost, s=round(time.perf_counter() - start, 3))
        return lost == 0

    async def close(self) -> None:
        """End what still runs."""
        for server, task in self.http:
            server.should_exit = server.force_exit = True
            await asyncio.wait((task,), timeout=2)
        if self.grpc:
            await self.grpc.stop(0)
        for task in self.background:
            task.cancel()

    async def _listen(self) -> dict[str, int]:
        options = self.options
        app = HttpApp(self.service, self.log)
        metrics = MetricsApp(metrics_registry(self.service), options.token)
        ports = {
            "http_port": await self._serve_http(app, options.http_port),
            "metrics_port": await self._serve_http(metrics, options.metrics_port),
        }
        address = _address(options.host, options.grpc_port)
        try:
            self.grpc, ports["grpc_port"] = grpc_server(
                GrpcApp(self.service, self.log), _credentials(options), address
            )
        except RuntimeError as error:
            raise _port_error(address, str(error)) from error
        await self.grpc.start()
        return ports

    async def _serve_http(self, app: Any, port: int) -> int:
        bound = _bound_socket(self.options.host, port)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=partial(GuardedProtocol, head_seconds=self.options.read_timeout),  # type: ignore[arg-type]
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            limit_concurrency=self.options.max_connections,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=round(self.options.drain_timeout + _MARGIN),
            ssl_certfile=self.options.tls_cert,
            ssl_keyfile=self.options.tls_key,
        )
        server = QuietServer(config)
        self.http.append((server, asyncio.create_task(server.serve(sockets=[bound]))))
        while not server.started:
            if self.http[-1][1].done():
                await self.http[-1][1]
            await asyncio.sleep(0.005)
        return int(bound.getsockname()[1])

    async def _quiet(self) -> None:
        """Turn clients away until none asks any more.

        A request that is on its way when a connection closes is lost to its client without our knowing. So the
        connections stay open until they are quiet, or for a second.
        """
        self.service.closing.set()
        for server, _ in self.http:
            server.stop_listening()
        for _ in range(round(_QUIET_AT_MOST / _QUIET)):
            before = self.service.accepted
            await asyncio.sleep(_QUIET)
            if self.service.accepted == before:
                return

    async def _close_fronts(self) -> None:
        """Both protocols finish what they have, in the time they are given."""
        for server, _ in self.http:
            server.should_exit = True
        limit = self.options.drain_timeout
        closing = asyncio.gather(self.grpc.stop(limit + _MARGIN), *(task for _, task in self.http))
        await asyncio.wait((closing,), timeout=limit)
        if not closing.done():
            self.service.cutting = True
            for server, _ in self.http:
                server.force_exit = True
            await self.grpc.stop(0)

    async def _unless_forced(self, work: Any) -> None:
        task, forced = asyncio.ensure_future(work), asyncio.ensure_future(self.force.wait())
        await asyncio.wait((task, forced), return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        forced.cancel()


async def run(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT; the exit code: 0, or 1 if an accepted request was not answered.

    A second signal ends the drain at once.

    Raises:
        ApaError: the server cannot start.
    """
    log = JsonLog()
    running = Running(options, log)
    _forward_library_logs(log)
    _handle_signals(running)
    try:
        return await _until_stopped(running)
    finally:
        await running.close()
        log.close()


async def _until_stopped(running: Running) -> int:
    starting = asyncio.create_task(running.start())
    stopping = asyncio.create_task(running.stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        await starting
        await stopping
    starting.cancel()
    return 0 if await running.drain() else _LOST


def _handle_signals(running: Running) -> None:
    def received() -> None:
        (running.force if running.stop.is_set() else running.stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, received)


def _forward_library_logs(log: JsonLog) -> None:
    handler = Forward(log)
    for name in ("uvicorn.error", "grpc", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False


def _bound_socket(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets NODELAY by the proto
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        raise _port_error(_address(host, port), str(error)) from error
    return bound


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _port_error(address: str, saw: str) -> ApaError:
    return InputError(f"{address}: {saw}", "an address and a free port", "Choose another one; port 0 takes any.")


def _credentials(options: ServeOptions) -> Any:
    if options.tls_cert is None or options.tls_key is None:
        return None
    pair = (options.tls_key.read_bytes(), options.tls_cert.read_bytes())
    return grpc.ssl_server_credentials([pair])
