"""An engine is code that runs with your rights: it is loaded only if its hash is known, or you say so.

The hash is looked up in the passport beside the engine. A passport is not signed: it proves that the two belong
together and are intact, not who made them. Where that matters, give the hash yourself, from a place you trust.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import PASSPORT_SUFFIX, SourceError, open_regular, read_text
from .engine_header import RTX_TAG


@dataclass(frozen=True)
class Trust:
    """`engine`: load it whatever its hash. `sha256`: the hash that it must have, in hex, passport or not."""

    engine: bool = False
    sha256: str | None = None


class UntrustedEngineError(InputError):
    """An engine's hash is not the one expected. `path`, `sha256`: the file and the hash it has."""

    def __init__(self, path: Path, sha256: str, saw: str) -> None:
        super().__init__(
            f"{path.name} (sha256 {sha256}): {saw}",
            "an engine whose hash is in its passport, for an engine is code",
            "Export it again; or, where you trust it, pass trust_engine=True (--trust-engine) or its sha256.",
        )
        self.path, self.sha256 = path, sha256


@dataclass(frozen=True)
class EngineFile:
    """A trusted engine: its bytes, the very ones that were hashed, and what its passport says ({} without one)."""

    content: bytes
    passport: dict[str, Any]

    @property
    def is_rtx(self) -> bool:
        """Whether TensorRT for RTX made it: its passport says so, or its first bytes."""
        return self.passport.get("format") == "trt-rtx" or self.content.startswith(RTX_TAG)

    @property
    def needs_plugin(self) -> bool | None:
        """Whether our plugin library must be loaded first; None where nothing says so."""
        build = self.passport.get("build")
        if not isinstance(build, dict):
            return None
        options = self.passport.get("options")
        return bool(build.get("plugin")) and not (isinstance(options, dict) and options.get("embed_plugin"))


def read_trusted_engine(path: Path, trust: Trust) -> EngineFile:
    """Read and check an engine.

    Raises:
        UntrustedEngineError: its hash is neither in its passport nor given, or is not the one that was given.
    """
    with open_regular(path) as file:
        content = file.read()
    found = hashlib.sha256(content).hexdigest()
    beside = path.with_name(path.name + PASSPORT_SUFFIX)
    passport = _passport(beside)
    if trust.sha256:
        if found != trust.sha256.lower():
            raise UntrustedEngineError(path, found, f"not the hash that was given, {trust.sha256}")
    elif not trust.engine:
        _check(path, found, beside, passport)
    return EngineFile(content, passport)


def _check(path: Path, found: str, beside: Path, passport: dict[str, Any]) -> None:
    outputs = passport.get("outputs")
    records = [one for one in outputs if isinstance(one, dict)] if isinstance(outputs, list) else []
    recorded = {str(record.get("sha256")) for record in records}
    if not recorded:
        raise UntrustedEngineError(
            path, found, f"no passport {beside.name}" if not passport else "not in its passport"
        )
    if found not in recorded:
        raise UntrustedEngineError(path, found, "not the file that its passport describes")


def _passport(beside: Path) -> dict[str, Any]:
    """As plain data: what it is in full is known above this layer."""
    try:
        found = json.loads(read_text(beside))
    except (SourceError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
