"""Write whole files or none: a temporary name in the target folder, then a rename."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

_CHUNK = 1 << 20

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
    """Raise `OutputError` if `path` exists and `force` is not given: call it before long work."""
    if path.exists() and not force:
        raise OutputError(path, "exists already", "Pass --force to replace it.")


@contextmanager
def replaced(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary file name beside `path`; on success it becomes `path`, else it is removed.

    The temporary name keeps the suffix, because several writers choose the format by it.
    The same holds for a folder: what was made under the temporary name replaces `path`.

    Raises:
        OutputError: `path` exists without `force`, or the file system refuses.
    """
    refuse_existing(path, force=force)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        _move(temporary, path)
    except OSError as error:
        advice = _OS_ADVICE.get(error.errno or 0, "check the folder and try again")
        raise OutputError(path, os.strerror(error.errno or 0), f"To go on, {advice}.") from error
    finally:
        _remove(temporary)


def _move(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.is_dir():
        shutil.rmtree(path)
    temporary.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
