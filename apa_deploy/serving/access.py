"""Who may call: loopback alone unless told otherwise, and a bearer token where one is set."""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path

from ..errors import InputError
from ..files import SourceError, read_text
from .errors import UnauthorizedError

_SHORTEST = 16
_SCHEME = "bearer"


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, token: str | None, *, insecure: bool) -> None:
    """Refuse to open the server to the network without protection.

    Raises:
        InputError: `host` is no loopback address and there is neither a token nor `insecure`.
    """
    if not (is_loopback(host) or token or insecure):
        raise InputError(
            f"--host {host} without a token",
            "a loopback address, or a token",
            "Set --token-file (or APA_SERVE_TOKEN), or pass --insecure to serve anyone.",
        )


def read_token(path: Path | None, environment: str | None) -> str | None:
    """The token in the file, else the one of the environment, else None.

    Raises:
        InputError: the file cannot be read, or the token is short or holds other than printable ASCII.
    """
    try:
        token = read_text(path).strip() if path else (environment or "").strip()
    except SourceError as error:
        raise InputError(error.saw, "a readable token file", "Check the path.") from error
    if not token and path is None:
        return None
    if len(token) < _SHORTEST or not (token.isascii() and token.isprintable()):
        do = "Make one with: openssl rand -hex 32"
        raise InputError(f"a token of {len(token)} characters", f"{_SHORTEST} or more of printable ASCII", do)
    return token


def check_token(authorization: str | None, token: str | None) -> None:
    """Hold the authorization header against the token, in constant time.

    Raises:
        UnauthorizedError: a token is set and the header does not carry it.
    """
    if token is None:
        return
    scheme, _, given = (authorization or "").strip().partition(" ")
    given = given.strip()
    if scheme.lower() != _SCHEME or not hmac.compare_digest(given.encode(), token.encode()):
        raise UnauthorizedError(
            "no valid token", "the header Authorization: Bearer TOKEN", "Send the server's token."
        )
