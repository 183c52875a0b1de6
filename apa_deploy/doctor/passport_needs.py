"""A passport: are the files that it speaks of here, and are they those?"""

from __future__ import annotations

from pathlib import Path

from ..files import sha256
from ..records.passport import FileRecord, Passport, PassportError, passport_path, read_passport
from .finding import Finding, FindingState, check_need

_AGAIN = "Copy the file and its passport together, or export again."


def passport_findings(folder: Path, passport: Passport) -> list[Finding]:
    """One finding for each output of the passport, looked for in `folder`."""
    return [_output(folder / record.name, record) for record in passport.outputs]


def _output(path: Path, record: FileRecord) -> Finding:
    wanted = f"{record.name}, {record.bytes} bytes, sha256 {record.sha256[:12]}..."
    if not path.is_file():
        return Finding("file of the passport", wanted, "not there", FindingState.MISSING, _AGAIN)
    size = path.stat().st_size
    if size != record.bytes:
        return Finding(
            "file of the passport", wanted, f"{size} bytes: another or a cut one", FindingState.MISSING, _AGAIN
        )
    return check_need("file of the passport", wanted, *_same(path, record), _AGAIN)


def _same(path: Path, record: FileRecord) -> tuple[str, bool]:
    seen = sha256(path)
    return f"sha256 {seen[:12]}...", seen == record.sha256


def own_passport(artifact: Path) -> tuple[Passport | None, Finding]:
    """The passport beside an artifact, and whether it vouches for it."""
    path = passport_path(artifact)
    if not path.is_file():
        do = "Other tools run it all the same; apa_deploy.Session needs trust_engine=True, or its sha256."
        return None, Finding("passport", path.name, "not there", FindingState.NOTE, do)
    try:
        passport = read_passport(path)
    except PassportError as error:
        return None, Finding("passport", "one that can be read", str(error), FindingState.MISSING, _AGAIN)
    record = next((one for one in passport.outputs if one.name == artifact.name), None)
    here, good = _same(artifact, record) if record else ("it does not name this file", False)
    wanted = f"that vouches for {artifact.name} (unsigned: it proves that the file is whole, not who made it)"
    return passport, check_need("passport", wanted, here, good, _AGAIN)
