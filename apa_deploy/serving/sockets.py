"""The connections of this process as the kernel sees them, also those that a library keeps to itself.

gRPC accepts by itself, and asyncio shows no connection of TLS before the handshake is over.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

Address = tuple[str, int]

_OURS = Path("/proc/self/fd")
_AT_MOST = 1 << 16  # descriptors looked at where the folder of them cannot be opened
_INFO = 192  # bytes of the kernel's tcp_info
_QUIET_AT, _RECEIVED_AT = 52, 128  # of tcpi_last_data_recv (u32, milliseconds) and tcpi_bytes_received (u64)


@dataclass(frozen=True)
class OpenSocket:
    """A connection. `port`: ours; `received`: bytes in all; `quiet`: seconds since the last of them came."""

    descriptor: int
    port: int
    peer: Address
    received: int
    quiet: float

    def end(self) -> None:
        """Shut it down, whoever holds it: that one reads its end. Nothing happens where it is gone."""
        with contextlib.suppress(OSError), _borrow(self.descriptor) as there:
            if (there.getsockname()[1], _address(there.getpeername())) == (self.port, self.peer):
                there.shutdown(socket.SHUT_RDWR)


def count_descriptors() -> int:
    """How many are open; where they cannot be counted, as many as there may be."""
    try:
        return len(list(_OURS.iterdir()))
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def list_sockets(ports: Collection[int]) -> list[OpenSocket]:
    """The connections that were accepted on these ports. Works where no descriptor is left."""
    try:
        descriptors = [int(one.name) for one in _OURS.iterdir()]
    except OSError:
        descriptors = list(range(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _AT_MOST)))
    found = []
    for descriptor in descriptors:
        with contextlib.suppress(OSError), _borrow(descriptor) as there:
            ours = there.getsockname()
            if isinstance(ours, tuple) and len(ours) > 1 and ours[1] in ports:
                found.append(_read_socket(there, ours[1]))
    return found


def parse_peer(name: str) -> Address:
    """Address of a peer as gRPC spells it, e.g. `ipv4:127.0.0.1:40000`, `ipv6:%5B::1%5D:40000`."""
    host, _, port = unquote(name).partition(":")[2].rpartition(":")
    return _address((host.strip("[]"), int(port) if port.isdecimal() else 0))


def _read_socket(there: socket.socket, port: int) -> OpenSocket:
    """Raises `OSError` where it is no connection, as one that listens."""
    peer = _address(there.getpeername())
    info = there.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO).ljust(_INFO, b"\0")
    (quiet,), (received,) = struct.unpack_from("=I", info, _QUIET_AT), struct.unpack_from("=Q", info, _RECEIVED_AT)
    return OpenSocket(there.fileno(), port, peer, received, quiet / 1000)


def _address(peer: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """One spelling: IPv4 as itself also where it came over IPv6, and no scope."""
    return peer[0].removeprefix("::ffff:").partition("%")[0], peer[1]


@contextlib.contextmanager
def _borrow(descriptor: int) -> Iterator[socket.socket]:
    """A socket that leaves its descriptor open; without a question to the kernel, so it may be no socket at all."""
    there = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)
    try:
        yield there
    finally:
        there.detach()
