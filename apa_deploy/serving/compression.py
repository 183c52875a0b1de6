"""Content codings of HTTP bodies, gzip and deflate, with a bound on what may come out."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from .errors import CodingError, RequestError, TooLargeError
from .tensors import Buffer

# zlib's window bits: 16 + 15 reads a gzip header, 15 a zlib one (which HTTP calls deflate)
_WINDOW = {"gzip": 31, "deflate": 15}
_FAST = 1


def expand(data: bytes, coding: str, limit: int) -> bytes:
    """`data` decompressed, never more than `limit` bytes.

    Raises:
        RequestError: it is no such stream, or cut short.
        TooLargeError: it would be larger than `limit`.
        CodingError: another coding.
    """
    if coding in ("", "identity"):
        return data
    if coding not in _WINDOW:
        raise CodingError(f"content-encoding {coding[:40]!r}", "gzip, deflate or none", "Use one of these.")
    stream = zlib.decompressobj(_WINDOW[coding])
    try:
        out = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise RequestError(f"{coding}: {error}", "a whole stream", "Correct the body.") from error
    if len(out) > limit:
        raise TooLargeError(f"more than {limit} bytes decompressed", f"at most {limit}", "Send less at once.")
    if not stream.eof:
        raise RequestError(f"{coding} cut short", "a whole stream", "Correct the body.")
    if stream.unused_data:
        saw = f"{len(stream.unused_data)} bytes behind the {coding} stream"
        raise RequestError(saw, "one stream", "Send it alone.")
    return out


def choose_coding(header: str | None) -> str:
    """The coding to answer with: the first of ours that `Accept-Encoding` names and does not forbid, or ""."""
    for part in (header or "").lower().split(","):
        coding, _, weight = part.strip().partition(";")
        if coding.strip() in _WINDOW and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            return coding.strip()
    return ""


def compress(parts: Iterable[Buffer], coding: str) -> bytes:
    """The parts, joined, in `coding`, at the fastest level: tensors hardly compress."""
    stream = zlib.compressobj(_FAST, wbits=_WINDOW[coding])
    return b"".join([*(stream.compress(part) for part in parts), stream.flush()])
