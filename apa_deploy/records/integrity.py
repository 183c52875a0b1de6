"""Hold files against the hashes of a passport: before they are loaded, or all of them for a report.

Unsigned: this finds damage and mix-ups. Who changes a file on purpose can write a passport that fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, computed_field

from ..errors import GateError
from ..files import SourceError, read_bytes, sha256
from .passport import FileRecord, Passport, PassportError, is_intact, passport_path, read_passport


class IntegrityError(GateError):
    """A file is not the one that the passport speaks of. `path`."""

    def __init__(self, path: Path, saw: str, wanted: str) -> None:
        super().__init__(f"{path}: {saw}", wanted, "Put the exported files there again, together.")
        self.path = path


def verify_passport(artifact: Path, weights: Sequence[str]) -> Passport | None:
    """The passport of `artifact` once every hash in it is right; None where there is no passport.

    Args:
        artifact: the model's file.
        weights: names of further files that it reads (`external_files`); the passport must know them.

    Raises:
        IntegrityError: a file differs from its record, or is none of the passport's.
        PassportError: the passport is damaged.
    """
    path = passport_path(artifact)
    if not path.exists():
        return None
    passport = read_passport(path)
    digest = sha256(artifact)
    others = [record for record in passport.outputs if record.sha256 != digest]
    if len(others) == len(passport.outputs):
        raise IntegrityError(artifact, f"sha256 {digest[:12]}...", f"a hash that {path.name} holds")
    for record in others:
        _check(artifact.parent, record)
    _check_known(artifact, weights, {record.name for record in others})
    return passport


def warnings(passport: Passport | None) -> list[str]:
    """What is missing from the proof that the model is right; it is served all the same."""
    if passport is None:
        return ["no passport: neither the files nor the results are verified"]
    if passport.parity is None or not passport.is_judged:
        return ["the passport holds no parity report: the results are not verified"]
    return [] if passport.parity.passed else ["the passport says that parity failed"]


def _check(folder: Path, record: FileRecord) -> None:
    path = folder / record.name
    if Path(record.name).name != record.name:
        raise IntegrityError(folder, f"the passport names {record.name!r}", "names without a folder")
    if _status(path, record) == "changed":
        raise IntegrityError(path, "its sha256 differs", f"{record.sha256[:12]}..., as the passport says")


def _check_known(artifact: Path, weights: Sequence[str], known: set[str]) -> None:
    unknown = sorted(set(weights) - known)
    if unknown:
        raise IntegrityError(artifact, f"weights in {', '.join(unknown)}", "files that the passport knows")


Status = Literal["intact", "changed", "absent"]


class FileCheck(BaseModel):
    """`role`: passport, output, input, or "built from". `needed`: whether its absence is a failure."""

    name: str
    role: str
    status: Status
    needed: bool = True
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.status == "intact" or (self.status == "absent" and not self.needed)


class PassportCheck(BaseModel):
    """What was found, file by file."""

    files: list[FileCheck]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether no file has changed, and no output is missing."""
        return all(check.passed for check in self.files)


def verify_files(path: Path, sources: Sequence[Path] = ()) -> tuple[PassportCheck, Passport | None]:
    """The check of every file, and the passport where it can still be read.

    Args:
        sources: where to look for what went in, beside the passport's own folder.

    Raises:
        PassportError: there is no such file.
    """
    try:
        intact = is_intact(read_bytes(path))
    except SourceError as error:
        raise PassportError(path, error.reason) from error
    try:
        passport = read_passport(path)
    except PassportError as error:
        own = FileCheck(name=path.name, role="passport", status="changed", note=error.saw)
        return PassportCheck(files=[own]), None
    own = FileCheck(name=path.name, role="passport", status="intact" if intact else "changed")
    files = [own, *(_output(path.parent, record) for record in passport.outputs)]
    files += [_source(path.parent, record, "input", sources) for record in passport.inputs]
    if passport.build:
        files.append(_source(path.parent, passport.build.model, "built from", sources))
    return PassportCheck(files=files), passport


def _output(folder: Path, record: FileRecord) -> FileCheck:
    return FileCheck(name=record.name, role="output", status=_status(folder / record.name, record))


def _source(folder: Path, record: FileRecord, role: str, sources: Sequence[Path]) -> FileCheck:
    """What went in need not be there; where it is, it must be the same."""
    named = [path for path in sources if path.name == record.name] or [folder / record.name]
    status = _status(named[0], record)
    note = "not here, so not checked" if status == "absent" else ""
    return FileCheck(name=record.name, role=role, status=status, needed=False, note=note)


def _status(path: Path, record: FileRecord) -> Status:
    if not path.is_file():
        return "absent"
    return "intact" if path.stat().st_size == record.bytes and sha256(path) == record.sha256 else "changed"
