"""Start, run and stop: bind, load, be ready; on SIGTERM answer what was accepted, then exit 0."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import uvicorn

from ..errors import ApaError, InputError
from .access import is_loopback
from .connections import Connections
from .descriptors import SocketGuard, count_connections, count_grpc_connections
from .grpc_app import GrpcApp, grpc_server
from .http_app import HttpApp
from .http_guard import GuardedProtocol, answer_probes
from .log import Forward, JsonLog
from .memory import give_back
from .metrics import metrics_registry
from .metrics_app import MetricsApp
from .options import ServeOptions
from .registry import Registry
from .service import Service
from .shadow import Shadow, references_by_model

_BACKLOG = 1024
_KEEP_ALIVE = 75  # seconds; longer than the minute for which load balancers keep idle connections
_OF_OWN = 64  # connections of the ports for metrics and for probes
_LOST = 1
_QUIET, _QUIET_AT_MOST = 0.1, 1.0  # seconds without a request, at the end of which connections close
_MARGIN = 5  # seconds by which the protocols' own limits lie behind ours, which counts what is lost
_CLOSING = 1.0  # seconds for each of the last steps, after which it is left to the end of the process
_AT_THE_LATEST = 4.5  # seconds beyond the time to drain after which the process ends whatever hangs


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handling: the signals are ours."""

    def stop_listening(self) -> None:
        """Take no new connections; those that are open go on."""
        for server in self.servers:
            server.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RunningServer:
    """The parts of a server that runs."""

    def __init__(self, options: ServeOptions, log: JsonLog) -> None:
        self.options, self.log = options, log
        self.registry = Registry(options, log)
        self.service = Service(self.registry, options)
        self.stop = asyncio.Event()
        self.http: list[tuple[QuietServer, asyncio.Task[None]]] = []
        self.connections: list[Connections] = []
        self.app, self.grpc_app = HttpApp(self.service, log), GrpcApp(self.service, log)
        self.sockets = SocketGuard(self.connections, self.grpc_app.callers, log)
        self.grpc: Any = None
        self.background: list[asyncio.Task[None]] = []
        self.guarding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind every port, load every model, then be ready.

        Raises:
            ApaError: a port is taken, or a model does not load and `keep_going` is not set.
        """
        ports = await self._listen()
        errors = await self.registry.load_all()
        if errors and not self.options.keep_going:
            raise errors[0]
        if self.options.shadow:
            await self._start_shadow()
        self.background.append(asyncio.create_task(give_back(self.service.budget)))
        if self.options.reload_interval:
            self.background.append(asyncio.create_task(self.registry.watch()))
        self.service.started = True
        models = [f"{model.name}/{model.version}" for model in self.registry.list_loaded()]
        self.log.info("ready", host=self.options.host, **ports, models=models)
        if not is_loopback(self.options.host) and not self.options.tls_cert:
            self.log.warning("exposed", host=self.options.host, notice="requests and tokens travel unencrypted")

    async def _start_shadow(self) -> None:
        names = sorted({model.name for model in self.registry.list_loaded()})
        references = references_by_model(self.options.shadow_references, names)
        shadow = Shadow(self.options.shadow, references, self.options.shadow_limit)
        await asyncio.to_thread(shadow.start, names)
        self.service.shadow = shadow

    def end_processes(self) -> None:
        """End every process that was started; without waiting, for the server ends."""
        self.registry.end_processes()
        self.app.codec.close()
        if self.service.shadow:
            self.service.shadow.close()

    def look_at_files(self) -> None:
        """Load what is new or replaced, now: what SIGHUP means to a server."""
        if self.service.started and not self.service.draining:
            looking = asyncio.create_task(self.registry.refresh())
            self.background.append(looking)
            looking.add_done_callback(self.background.remove)

    async def drain(self) -> bool:
        """Stop taking requests, answer those accepted; whether all were answered."""
        start = time.perf_counter()
        self.service.draining = True
        self._stop_background()
        self.log.info("draining", seconds=self.options.drain_timeout)
        await asyncio.sleep(self.options.drain_delay)
        end = time.perf_counter() + self.options.drain_timeout
        await self._quiet()
        await self._close_fronts(end - time.perf_counter())
        with contextlib.suppress(TimeoutError):  # what still runs is an execution that nobody waits for
            await asyncio.wait_for(self.registry.retire_all(), _CLOSING)
        self.log_end(start)
        return self.lost == 0

    @property
    def lost(self) -> int:
        """Requests accepted and not answered."""
        return self.service.accepted - self.service.answered

    def log_end(self, start: float) -> None:
        """The last line of the log."""
        seconds = round(time.perf_counter() - start, 3)
        self.log.info("drained", accepted=self.service.accepted, lost=self.lost, s=seconds)

    async def close(self) -> None:
        """End what still runs, as far as it lets itself be ended."""
        self._stop_background()
        if self.guarding:
            self.guarding.cancel()
        for server, _ in self.http:
            server.should_exit = server.force_exit = True
        ends: list[Any] = [task for _, task in self.http]
        if self.grpc:
            ends.append(asyncio.ensure_future(self.grpc.stop(0)))
        if ends:
            await asyncio.wait(ends, timeout=_CLOSING)
        self.end_processes()

    def _stop_background(self) -> None:
        for task in self.background:
            task.cancel()

    async def _listen(self) -> dict[str, int]:
        options = self.options
        metrics = MetricsApp(metrics_registry(self.service, self.connections, self.sockets), options.token)
        limit = count_connections(options.max_connections, self.log)
        ports = {
            "http_port": await self._serve_http(self.app, options.http_port, limit),
            "metrics_port": await self._serve_http(metrics, options.metrics_port, _OF_OWN),
        }
        if options.health_port is not None:
            app = answer_probes(self.app, 404)
            ports["health_port"] = await self._serve_http(app, options.health_port, _OF_OWN)
        address = _address(options.host, options.grpc_port)
        self.sockets.http_ports = set(ports.values())
        self.sockets.grpc_limit = count_grpc_connections(limit)
        try:
            self.grpc, ports["grpc_port"] = grpc_server(
                self.grpc_app, _credentials(options), address, self.sockets.grpc_limit
            )
        except RuntimeError as error:
            raise _port_error(address, str(error)) from error
        self.sockets.grpc_port = ports["grpc_port"]
        await self.grpc.start()
        self.guarding = asyncio.create_task(self.sockets.watch())  # to the end, unlike what is in the background
        return ports

    async def _serve_http(self, app: Any, port: int, limit: int) -> int:
        bound = _bind_socket(self.options.host, port)
        self.connections.append(Connections(limit))
        protocol = partial(
            GuardedProtocol,
            connections=self.connections[-1],
            budget=self.service.budget,
            head_seconds=self.options.read_timeout,
            write_seconds=self.options.write_timeout,
        )
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=protocol,  # type: ignore[arg-type]
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
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

    async def _close_grpc(self, limit: float) -> None:
        """Let the calls end. Connections without one would be given 20 s to confirm that they know."""
        if self.grpc is None:  # the end came before the start
            return
        stopping = asyncio.ensure_future(self.grpc.stop(limit))
        await self.grpc_app.no_call()
        await self.grpc.stop(0)
        await stopping

    async def _close_fronts(self, limit: float) -> None:
        """Both protocols finish what they have, in the seconds they are given."""
        for server, _ in self.http:
            server.should_exit = True
        closing = asyncio.gather(self._close_grpc(limit + _MARGIN), *(task for _, task in self.http))
        await asyncio.wait((closing,), timeout=max(0.0, limit))
        if not closing.done():
            self.service.cutting = True
            for server, _ in self.http:
                server.force_exit = True
            if self.grpc:
                await asyncio.wait((asyncio.ensure_future(self.grpc.stop(0)),), timeout=_CLOSING)


async def run(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT; the exit code: 0, or 1 if an accepted request was not answered.

    A second signal ends the process at once, and so does time: seconds after the drain's limit, whatever hangs.

    Raises:
        ApaError: the server cannot start.
    """
    log = JsonLog()
    running = RunningServer(options, log)
    _forward_library_logs(log)
    _answer_signals(running)
    running.sockets.answer_shortage()
    try:
        return await _until_stopped(running)
    finally:
        await running.close()
        log.close()


async def _until_stopped(running: RunningServer) -> int:
    starting = asyncio.create_task(running.start())
    stopping = asyncio.create_task(running.stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        await starting
        await stopping
    starting.cancel()
    return 0 if await running.drain() else _LOST


def _answer_signals(running: RunningServer) -> None:
    loop, start = asyncio.get_running_loop(), time.perf_counter()

    def stop() -> None:
        nonlocal start
        if running.stop.is_set():
            running.log_end(start)
            running.end_processes()
            running.log.close()
            os._exit(_LOST if running.lost else 0)
        start = time.perf_counter()
        running.stop.set()
        limit = running.options.drain_delay + running.options.drain_timeout + _AT_THE_LATEST
        # a thread of C, which needs neither the event loop nor Python's lock; its exit code is 1
        faulthandler.dump_traceback_later(limit, exit=True, file=nowhere)

    nowhere = Path(os.devnull).open("w")  # noqa: SIM115  for as long as the process lives
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, running.look_at_files)


def _forward_library_logs(log: JsonLog) -> None:
    handler = Forward(log)
    for name in ("uvicorn.error", "grpc", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False


def _bind_socket(host: str, port: int) -> socket.socket:
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
