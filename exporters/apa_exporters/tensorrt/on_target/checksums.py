"""SHA256SUMS, as `sha256sum -c` reads it: written with a bundle, checked before anything in it is used."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .refusal import MISUSE, RefusalError

NAME = "SHA256SUMS"
_DO = "Copy the bundle again, or export it again; nothing of it was used."


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def write_sums(folder: Path) -> None:
    """List every file of `folder` but the list itself."""
    lines = [f"{digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Raise a `RefusalError` if a listed file is absent or changed, or a file is not listed."""
    if not (folder / NAME).is_file():
        raise RefusalError(f"no {NAME} in {folder}", "a whole bundle", _DO, MISUSE)
    listed = dict(_entry(line) for line in (folder / NAME).read_text(encoding="utf-8").splitlines())
    present = set(_files(folder))
    wrong = [f"{name} is absent" for name in sorted(set(listed) - present)]
    wrong += [f"{name} is not listed" for name in sorted(present - set(listed))]
    wrong += [
        f"{name} was changed" for name in sorted(present & set(listed)) if digest(folder / name) != listed[name]
    ]
    if wrong:
        raise RefusalError("; ".join(wrong), f"the files of {NAME}", _DO, MISUSE)


def _entry(line: str) -> tuple[str, str]:
    found, _, name = line.partition("  ")
    return name, found


def _files(folder: Path) -> list[str]:
    """Relative names; what Python caches there by itself does not count."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(name for path in paths if (name := path.relative_to(folder).as_posix()) != NAME)
