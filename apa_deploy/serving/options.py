"""What the server may be told, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..runtimes.providers import Wanted
from .access import check_exposure

MIB = 1 << 20
_MOST_BYTES = 2047 * MIB  # of a message: gRPC counts them in an int32
_MOST_SECONDS = 2_000_000  # as gRPC counts milliseconds in an int32; 23 days
_TIMES = (
    "request_timeout",
    "read_timeout",
    "write_timeout",
    "reload_interval",
    "drain_delay",
    "drain_timeout",
)


def default_threads(instances: int) -> int:
    """Threads of the runtime: one core stays with the event loop, the others are shared by the instances."""
    return max(1, (len(os.sched_getaffinity(0)) - 1) // instances)


def most_instances() -> int:
    """Executions at once, or threads of one: more than four a core only wait for each other; 32 fit any machine."""
    return max(32, 4 * len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class ServeOptions:
    """Times in seconds, sizes in bytes, ports 0 for any free one.

    Raises:
        InputError: an open host without protection, half a TLS pair, or a size that makes no sense.
    """

    source: Path
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    health_port: int | None = None
    max_batch: int = 32
    batch_delay: float = 0.0
    instances: int = 1
    threads: int = 1
    providers: Sequence[Wanted] | None = None
    trust_engine: bool = False
    isolate: bool = False
    flush_subnormals: bool = False
    shadow: float = 0.0
    shadow_references: Sequence[str] = ()
    shadow_limit: float | None = None
    queue: int = 256
    request_timeout: float = 60.0
    read_timeout: float = 30.0
    write_timeout: float = 30.0
    max_request: int = 64 * MIB
    max_pending: int = 1024 * MIB
    max_connections: int = 1024
    reload_interval: float = 2.0
    drain_delay: float = 0.0
    drain_timeout: float = 30.0
    token: str | None = None
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    keep_going: bool = False
    log_requests: bool = True

    def __post_init__(self) -> None:
        check_exposure(self.host, self.token, insecure=self.insecure)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("one of --tls-cert and --tls-key", "both or neither", "Give both.")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise InputError(f"{path} is not a file", "a PEM file", "Check the path.")
        self._check_shadow()
        self._check_sizes()

    def _check_shadow(self) -> None:
        if bool(self.shadow) != bool(self.shadow_references):
            raise InputError("one of --shadow and --shadow-reference", "both or neither", "Give both.")
        if not 0 <= self.shadow <= 1:
            raise InputError(f"--shadow {self.shadow}", "a rate above 0, at most 1", "Give e.g. 0.01.")
        if self.shadow_limit is not None and not self.shadow_limit > 0:
            raise InputError(f"--shadow-limit {self.shadow_limit}", "a positive value", "Give e.g. 1e-4.")

    def _check_sizes(self) -> None:
        positive = (
            "instances",
            "threads",
            "queue",
            "request_timeout",
            "read_timeout",
            "write_timeout",
            "max_request",
            "max_pending",
        )
        at_least_0 = ("max_batch", "batch_delay", "reload_interval", "drain_delay", "drain_timeout")
        for name in (*positive, *at_least_0, "max_connections"):
            value = getattr(self, name)
            if name in ("instances", "threads") and value > most_instances():
                wanted = f"at most {most_instances()} on this machine"
                raise InputError(f"--{name} {value}", wanted, "Give fewer, or leave it out.")
            if value < 0 or (value == 0 and name not in at_least_0):
                wanted = "a value >= 0" if name in at_least_0 else "a positive value"
                raise InputError(f"--{name.replace('_', '-')} {value}", wanted, "Change it or leave it out.")
        for name, most, unit in (("max_request", _MOST_BYTES, MIB), *((name, _MOST_SECONDS, 1) for name in _TIMES)):
            if (value := getattr(self, name)) > most:
                option = f"--{name.replace('_', '-')}{'-mib' if unit == MIB else ''}"
                raise InputError(f"{option} {value / unit:g}", f"at most {most // unit}", "Give less.")
        if self.batch_delay > self.request_timeout:
            saw, wanted = f"--batch-delay-ms {self.batch_delay * 1e3:g}", f"at most {self.request_timeout * 1e3:g}"
            raise InputError(saw, f"{wanted}, for no request waits longer (--request-timeout)", "Give less.")
