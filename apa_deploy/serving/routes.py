"""Which operation an address means."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import MethodError, NotFoundError

_FIXED = {
    "v2": ("GET", "server_metadata"),
    "v2/health/live": ("GET", "live"),
    "v2/health/ready": ("GET", "ready"),
    "v2/models/stats": ("GET", "statistics"),
    "v2/repository/index": ("POST", "index"),
    "v2/systemsharedmemory/status": ("GET", "regions"),
    "v2/systemsharedmemory/unregister": ("POST", "unregister"),
}
_OF_A_MODEL = {
    "": ("GET", "model_metadata"),
    "ready": ("GET", "model_ready"),
    "config": ("GET", "model_config"),
    "stats": ("GET", "statistics"),
    "infer": ("POST", "infer"),
}
_OF_A_REGION = {
    "status": ("GET", "regions"),
    "register": ("POST", "register"),
    "unregister": ("POST", "unregister"),
}
_OF_THE_REPOSITORY = {"load": ("POST", "load"), "unload": ("POST", "unload")}


@dataclass(frozen=True)
class Route:
    """`operation`: a name of the tables above; `model`: or a region's name; `version` "": the latest."""

    operation: str
    model: str = ""
    version: str = ""


def match_route(method: str, path: str) -> Route:
    """The operation behind a method and a path.

    Raises:
        NotFoundError: there is none.
        MethodError: there is one, with another method.
    """
    found = _match_fixed(path) or _of_a_model(path)
    if found is None:
        raise NotFoundError(f"address {path[:80]!r}", "one of the protocol's", "See docs/serving.md.")
    (wanted, operation), model, version = found
    if method != wanted and (method, wanted) != ("HEAD", "GET"):
        raise MethodError(f"{method} {path[:80]}", wanted)
    return Route(operation, model, version)


_Found = tuple[tuple[str, str], str, str]


def _match_fixed(path: str) -> _Found | None:
    row = _FIXED.get(path.strip("/"))
    return (row, "", "") if row else None


def _of_a_model(path: str) -> _Found | None:
    row: tuple[str, str] | None = None
    match path.strip("/").split("/"):
        case ["v2", "models", name, "versions", version, *rest] if version and len(rest) <= 1:
            row = _OF_A_MODEL.get("".join(rest))
            return (row, name, version) if row else None
        case ["v2", "models", name, *rest] if len(rest) <= 1:
            row = _OF_A_MODEL.get("".join(rest))
        case ["v2", "repository", "models", name, verb]:
            row = _OF_THE_REPOSITORY.get(verb)
        case ["v2", "systemsharedmemory", "region", name, verb]:
            row = _OF_A_REGION.get(verb)
        case _:
            return None
    return (row, name, "") if row else None
