"""Parameters of a request: typed reading, with a refusal that names the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import RequestError, UnsupportedError
from .request import Place

_LONGEST = 10**15  # microseconds: 30 years; JSON has numbers that no float holds
_UNSUPPORTED = ("sequence_id",)


def flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """A boolean parameter."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _refusal(name, value, "true or false")
    return value


def count(parameters: Mapping[str, Any], name: str) -> int | None:
    """A non-negative integer parameter; None where it is absent."""
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise _refusal(name, value, "an integer >= 0")
    return value


def seconds(parameters: Mapping[str, Any]) -> float | None:
    """The `timeout` parameter, which the protocol counts in microseconds; 0 means none."""
    microseconds = count(parameters, "timeout")
    return min(microseconds, _LONGEST) / 1e6 if microseconds else None


def refuse_unsupported(parameters: Mapping[str, Any], *others: str) -> None:
    """Raise `UnsupportedError` where a request asks for sequences, or for one of `others`."""
    for name in (*_UNSUPPORTED, *others):
        if name in parameters:
            raise UnsupportedError(f"parameter {name}", "requests that stand alone", "Leave it out.")


def place(parameters: Mapping[str, Any]) -> Place | None:
    """Where a tensor's parameters say that it lies in shared memory; None: it is in the message.

    Raises:
        RequestError: they do not say it right.
    """
    if "shared_memory_region" not in parameters:
        return None
    name, size = parameters["shared_memory_region"], count(parameters, "shared_memory_byte_size")
    if not isinstance(name, str) or size is None:
        saw = f"shared_memory_region {str(name)[:40]!r} of {size} bytes"
        raise RequestError(saw, "a name, with shared_memory_byte_size", "Give both.")
    return Place(name, count(parameters, "shared_memory_offset") or 0, size)


def _refusal(name: str, value: object, wanted: str) -> RequestError:
    return RequestError(f"parameter {name} = {str(value)[:40]!r}", wanted, "Correct the parameter.")
