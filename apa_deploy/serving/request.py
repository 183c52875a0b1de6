"""An inference as both protocols see it."""

from __future__ import annotations

import itertools
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_PROCESS, _numbers = secrets.token_hex(4), itertools.count(1)
_SAFE_ID = re.compile(r"[\x21-\x7e]{1,128}")  # printable and short: it goes into headers and log lines


@dataclass(frozen=True)
class Place:
    """Where one tensor lies: bytes of a region of shared memory."""

    region: str
    offset: int
    byte_size: int

    @property
    def parameters(self) -> dict[str, Any]:
        """As the extension writes it."""
        sizes = {"shared_memory_offset": self.offset, "shared_memory_byte_size": self.byte_size}
        return {"shared_memory_region": self.region, **sizes}


@dataclass(frozen=True)
class StoredTensor:
    """An input in shared memory; `datatype` by its name in the protocol."""

    place: Place
    datatype: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class WantedOutput:
    """An output by name; `binary`: as raw bytes; `classes`: that many classes instead of scores, where > 0.

    `place`: in shared memory, None: in the answer.
    """

    name: str
    binary: bool = True
    classes: int = 0
    place: Place | None = None


@dataclass(slots=True)
class InferRequest:
    """`outputs` None: all of them. `timeout`: seconds, None: the server's limit. `id` "": none was given.

    `stored`: inputs in shared memory that are not read yet.
    """

    inputs: dict[str, np.ndarray]
    stored: dict[str, StoredTensor] = field(default_factory=dict)
    outputs: list[WantedOutput] | None = None
    id: str = ""
    timeout: float | None = None
    binary: bool = False
    bytes: int = 0


@dataclass(slots=True)
class InferReply:
    """`outputs` in the order in which they were asked for."""

    model: str
    version: str
    id: str
    outputs: list[tuple[WantedOutput, np.ndarray]] = field(default_factory=list)


def trace_id(*candidates: str | None) -> str:
    """The first candidate that may stand in a header and a log line, else a new one."""
    for candidate in candidates:
        if candidate and _SAFE_ID.fullmatch(candidate):
            return candidate
    return f"{_PROCESS}-{next(_numbers):x}"
