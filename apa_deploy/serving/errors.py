"""What the server answers when it refuses: each error knows its HTTP status and its gRPC code."""

from __future__ import annotations

from typing import ClassVar

from ..errors import InputError


class ServingError(InputError):
    """Base of the refusals. `http`: status; `grpc`: name of the gRPC status code."""

    http: ClassVar[int] = 400
    grpc: ClassVar[str] = "INVALID_ARGUMENT"

    @property
    def headers(self) -> dict[str, str]:
        """Headers (HTTP) or trailing metadata (gRPC) that go with the answer, in lower case."""
        return {}


class RequestError(ServingError):
    """The request is malformed or does not fit the model."""


class UnauthorizedError(ServingError):
    """No token, or a wrong one."""

    http, grpc = 401, "UNAUTHENTICATED"

    @property
    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class NotFoundError(ServingError):
    """No such model, version or address."""

    http, grpc = 404, "NOT_FOUND"


class MethodError(ServingError):
    """The address exists, the HTTP method does not fit it. `allowed`: the one that does."""

    http, grpc = 405, "UNIMPLEMENTED"

    def __init__(self, saw: str, allowed: str) -> None:
        super().__init__(saw, allowed, f"Use {allowed}.")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"allow": self.allowed}


class SlowClientError(ServingError):
    """The body did not arrive within the time limit."""

    http, grpc = 408, "DEADLINE_EXCEEDED"


class TooLargeError(ServingError):
    """The request is larger than the server takes."""

    http, grpc = 413, "RESOURCE_EXHAUSTED"


class UnsupportedError(ServingError):
    """A part of the protocol that this server does not have."""

    http, grpc = 501, "UNIMPLEMENTED"


class CodingError(UnsupportedError):
    """A body in a coding that this server does not read."""

    http = 415


class ExecutionError(ServingError):
    """The runtime failed on a request that fits the model."""

    http, grpc = 500, "INTERNAL"


class OverloadedError(ServingError):
    """A queue or the memory for requests is full. `retry_after`: seconds after which to try again."""

    http, grpc = 503, "RESOURCE_EXHAUSTED"

    def __init__(self, saw: str, wanted: str, retry_after: int = 1) -> None:
        super().__init__(saw, wanted, f"Try again in {retry_after} s.")
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after), "grpc-retry-pushback-ms": str(self.retry_after * 1000)}


class UnavailableError(ServingError):
    """The server is draining, or the model is not loaded."""

    http, grpc = 503, "UNAVAILABLE"


class TimedOutError(ServingError):
    """The request was not answered within its time limit. `seconds`."""

    http, grpc = 504, "DEADLINE_EXCEEDED"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no result after {seconds:g} s", "one within the time limit", "Try again later.")
        self.seconds = seconds
