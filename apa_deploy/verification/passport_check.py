"""Hold every file that a passport speaks of against its hash, and the passport itself against its own.

Unsigned: this finds damage and mix-ups. Who changes a file on purpose can write a passport that fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, computed_field

from ..files import sha256
from ..records.passport import FileRecord, Passport, PassportError, is_intact, read_passport

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
        intact = is_intact(path.read_bytes())
    except OSError as error:
        raise PassportError(path, error.strerror or "unreadable") from error
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
