"""Hold a model's files against its passport before anything of them is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import GateError
from ..files import sha256
from ..records.passport import FileRecord, Passport, passport_path, read_passport


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
    if path.is_file() and sha256(path) != record.sha256:
        raise IntegrityError(path, "its sha256 differs", f"{record.sha256[:12]}..., as the passport says")


def _check_known(artifact: Path, weights: Sequence[str], known: set[str]) -> None:
    unknown = sorted(set(weights) - known)
    if unknown:
        raise IntegrityError(artifact, f"weights in {', '.join(unknown)}", "files that the passport knows")
