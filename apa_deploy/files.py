"""Write whole files or none: a temporary name in the target folder, then a rename."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

PASSPORT_SUFFIX = ".passport.json"
_CHUNK = 1 << 20
_ANY_WRITE = 0o222

_OS_ADVICE = {
    errno.ENOSPC: "free some space or choose another folder with -o",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder with -o",
    errno.EFBIG: "the file-size limit (ulimit -f) is too small: raise it",
    errno.EACCES: "choose a folder that you may write to with -o",
    errno.EPERM: "choose a folder that you may write to with -o",
    errno.EROFS: "the file system is read-only: choose another folder with -o",
    errno.ENOENT: "create the folder first or choose another one with -o",
}


class OutputError(InputError):
    """An output cannot be written. `path` is the final name."""

    def __init__(self, path: Path, saw: str, do: str) -> None:
        super().__init__(f"{path}: {saw}", "a file that can be written", do)
        self.path = path


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `OutputError` if `path` exists and `force` is not given, or is read-only: call it before long work."""
    if path.exists() and not force:
        raise OutputError(path, "exists already", "Pass --force to replace it.")
    if path.exists() and not path.stat().st_mode & _ANY_WRITE:
        raise OutputError(path, "is read-only", "Make it writable, or choose another name with -o.")


@contextmanager
def replaced(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary file (or folder) name beside `path`; on success it becomes `path`, else it is removed.

    Raises:
        OutputError: `path` exists without `force`, or the file system refuses.
    """
    with staged([path], force=force) as folder:
        yield folder / path.name


@contextmanager
def staged(paths: Sequence[Path], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `paths`; what was made there under their names moves to them together.

    `paths` lie in one folder. On failure nothing of them is left, and what stood there before still stands.

    Raises:
        OutputError: one of `paths` exists without `force`, or the file system refuses.
    """
    temporary = paths[0].parent / f".{paths[0].stem}.{secrets.token_hex(4)}.tmp"
    try:
        for path in paths:
            refuse_existing(path, force=force)
        temporary.mkdir()
        yield temporary
        for path in paths:
            if (temporary / path.name).exists():
                _move(temporary / path.name, path)
    except OSError as error:
        advice = _OS_ADVICE.get(error.errno or 0, "check the folder and try again")
        raise OutputError(paths[0], os.strerror(error.errno or 0), f"To go on, {advice}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.is_dir():
        shutil.rmtree(path)
    temporary.replace(path)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
