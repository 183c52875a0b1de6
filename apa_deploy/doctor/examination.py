"""A file of any known kind -> its findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..records.passport import PassportError, read_passport
from .engine_needs import check_prefixed_engine, engine_findings
from .facts import MachineFacts
from .finding import Finding, something_missing
from .kind import Kind, UnknownFileError, kind_of
from .onnx_needs import onnx_findings
from .openvino_needs import openvino_findings
from .passport_needs import passport_findings


@dataclass(frozen=True)
class Examination:
    """What a file is, and what was found."""

    file: Path
    kind: Kind
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing that the file needs is missing here."""
        return not something_missing(self.findings)


def examine(path: Path, facts: MachineFacts) -> Examination:
    """Examine `path`; a passport brings the artifact that it describes with it.

    Raises:
        UnknownFileError: the file is absent, damaged or of no known kind.
    """
    kind, start = kind_of(path)
    return Examination(path, kind, tuple(_findings(path, kind, start, facts)))


def _findings(path: Path, kind: Kind, start: bytes, facts: MachineFacts) -> list[Finding]:
    if kind is Kind.ENGINE:
        return engine_findings(path, start, facts)
    if kind is Kind.PREFIXED:
        return check_prefixed_engine(path, start, facts)
    if kind is Kind.OPENVINO:
        return openvino_findings(path, facts)
    return onnx_findings(path, facts) if kind is Kind.ONNX else _of_passport(path, facts)


def _of_passport(path: Path, facts: MachineFacts) -> list[Finding]:
    try:
        passport = read_passport(path)
    except PassportError as error:
        raise UnknownFileError(path, f"no passport that can be read ({error.saw})", "Export again.") from error
    found = passport_findings(path.parent, passport)
    artifact = path.parent / passport.outputs[0].name if passport.outputs else path
    if something_missing(found) or artifact == path:
        return found
    return [*found, *(f for f in examine(artifact, facts).findings if f.topic != "passport")]
