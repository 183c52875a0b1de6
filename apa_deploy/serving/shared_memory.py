"""The system shared memory extension: tensors in POSIX segments that the client shares with the server.

A segment is read and written with the calls for files, not mapped: where a client cuts short a mapped one, the next
access would end the server. Only segments of the server's own user are taken, and only on loopback.
"""

from __future__ import annotations

import asyncio
import os
import resource
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .budget import Share
from .errors import NotFoundError, RequestError, TooLargeError, UnsupportedError
from .offload import LARGE_BYTES
from .request import InferRequest, Place, StoredTensor
from .tensors import Buffer, array_from_bytes, read_datatype

_FOLDER = Path("/dev/shm")
_MOST = 256  # regions; each holds a descriptor


class Segment:
    """A descriptor that closes when nobody reads from it any more, though its region may be forgotten before."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True)
class Region:
    """A part of a segment, under the name that the client gave it."""

    key: str
    offset: int
    byte_size: int
    segment: Segment


class Regions:
    """What clients have registered.

    Args:
        limit: bytes of one tensor.
        allowed: whether the server takes shared memory at all.
    """

    def __init__(self, limit: int, *, allowed: bool) -> None:
        self._limit, self.allowed = limit, allowed
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Take a segment in.

        Raises:
            RequestError: the name is taken, or the segment is absent, another user's, or too small.
            UnsupportedError: the server takes none.
        """
        self._check_allowed()
        if not name or name in self._regions:
            raise RequestError(f"region {name[:80]!r}", "a new name", "Unregister it first.")
        most = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)  # a share of the descriptors
        if len(self._regions) >= most:
            raise RequestError(f"{most} regions", "fewer", "Unregister some.")
        if min(offset, byte_size) < 0 or not byte_size:
            raise RequestError(f"offset {offset}, byte_size {byte_size}", "a part of the segment", "Correct them.")
        segment = Segment(_open(key))
        if os.fstat(segment.descriptor).st_size < offset + byte_size:
            saw = f"{byte_size} bytes from {offset} of {key[:80]!r}"
            raise RequestError(saw, "what lies within the segment", "Make the segment as large.")
        self._regions[name] = Region(key, offset, byte_size, segment)

    def unregister(self, name: str) -> None:
        """Forget a region, or all of them (`name` ""); one that is not there is no error, as in Triton."""
        for one in [name] if name else list(self._regions):
            self._regions.pop(one, None)

    def status(self, name: str) -> list[dict[str, Any]]:
        """One region, or all of them (`name` "").

        Raises:
            NotFoundError: there is no such region.
        """
        if name and name not in self._regions:
            raise NotFoundError(f"region {name[:80]!r}", "a registered one", "Register it first.")
        return [
            {"name": one, "key": region.key, "offset": region.offset, "byte_size": region.byte_size}
            for one, region in self._regions.items()
            if name in ("", one)
        ]

    async def fetch(self, request: InferRequest, names: Sequence[str], share: Share) -> None:
        """Read the inputs of a request that lie here, of a model with the inputs `names`; they count in `share`.

        Raises:
            RequestError: a name is unknown, a tensor not within its region, or the segment has been cut short.
            TooLargeError: a tensor is larger than a request may be.
            OverloadedError: the share's budget is used up.
        """
        if not request.stored:
            return
        if not {*request.inputs, *request.stored} <= set(names):
            saw = ", ".join(sorted({*request.inputs, *request.stored}))[:80]
            raise RequestError(f"inputs {saw}", ", ".join(names), "Send every input by its name.")
        regions = [self._at(tensor.place) for tensor in request.stored.values()]
        sizes = [tensor.place.byte_size for tensor in request.stored.values()]
        if max(sizes) > self._limit:
            raise TooLargeError(f"{max(sizes)} bytes", f"at most {self._limit}", "Send less at once.")
        share.take(sum(sizes))
        if sum(sizes) > LARGE_BYTES:
            request.inputs |= await asyncio.to_thread(_read_all, request.stored, regions)
        else:
            request.inputs |= _read_all(request.stored, regions)

    def write(self, place: Place, data: Buffer) -> Place:
        """Write a tensor, and say where it lies.

        Raises:
            RequestError: it does not fit, or the segment has been cut short.
        """
        region = self._at(place)
        if len(data) > place.byte_size:
            saw = f"{place.byte_size} bytes of region {place.region!r} for an output of {len(data)}"
            raise RequestError(saw, "room for all of it", "Make shared_memory_byte_size larger.")
        start = region.offset + place.offset
        descriptor = region.segment.descriptor
        if os.fstat(descriptor).st_size < start + len(data):  # to write would make it longer
            raise RequestError(f"region {place.region!r} cut short", f"{len(data)} bytes", "Register it again.")
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, start)
            view, start = view[written:], start + written
        return Place(place.region, place.offset, len(data))

    def _check_allowed(self) -> None:
        if not self.allowed:
            raise UnsupportedError("shared memory", "a server on loopback alone", "Send them in the request.")

    def _region(self, name: str) -> Region:
        self._check_allowed()
        if name not in self._regions:
            raise RequestError(f"region {name[:80]!r}", "a registered one", "Register it first.")
        return self._regions[name]

    def _at(self, place: Place) -> Region:
        region = self._region(place.region)
        if place.offset + place.byte_size > region.byte_size:
            saw = f"{place.byte_size} bytes from {place.offset} of region {place.region!r}"
            raise RequestError(saw, f"within its {region.byte_size}", "Correct the offset or the size.")
        return region


def _read_all(stored: Mapping[str, StoredTensor], regions: Sequence[Region]) -> dict[str, np.ndarray]:
    tensors = zip(stored.items(), regions, strict=True)
    return {name: _read(name, tensor, region) for (name, tensor), region in tensors}


def _read(name: str, tensor: StoredTensor, region: Region) -> np.ndarray:
    size = tensor.place.byte_size
    data = os.pread(region.segment.descriptor, size, region.offset + tensor.place.offset)
    if len(data) != size:
        raise RequestError(f"region {tensor.place.region!r} cut short", f"{size} bytes", "Register it again.")
    return array_from_bytes(data, read_datatype(tensor.datatype), tensor.shape, name)


def _open(key: str) -> int:
    name = key.removeprefix("/")
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise RequestError(f"key {key[:80]!r}", "the name of a segment, without a folder", "Correct the key.")
    try:
        descriptor = os.open(_FOLDER / name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, UnicodeEncodeError) as error:
        saw = getattr(error, "strerror", "no name of a file")
        raise RequestError(f"{key[:80]!r}: {saw}", "a segment of this user", "Make it first.") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(descriptor)
        raise RequestError(f"{key[:80]!r} of another user", "one of the server's own", "Run both as one user.")
    return descriptor
