"""Parameters of a request: typed reading, with a refusal that names the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import RequestError, UnsupportedError

_LONGEST = 10**15  # microseconds: 30 years; JSON has numbers that no float holds
_UNSUPPORTED = ("shared_memory_region", "sequence_id")


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


def refuse_unsupported(parameters: Mapping[str, Any]) -> None:
    """Raise `UnsupportedError` where a request asks for shared memory or sequences."""
    for name in _UNSUPPORTED:
        if name in parameters:
            raise UnsupportedError(f"parameter {name}", "tensors in the request", "Leave it out.")


def _refusal(name: str, value: object, wanted: str) -> RequestError:
    return RequestError(f"parameter {name} = {str(value)[:40]!r}", wanted, "Mend the parameter.")
