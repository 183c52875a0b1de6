"""A folder of files made from other files: found by a key, verified by their own hash.

    <user's cache>/apa-deploy/prepared/<key>.<sha256 of the file>.onnx        folder 0700, files 0600

A file appears by one rename, so that processes need no lock: two that make the same entry both succeed. A file
that does not have the hash in its name is removed, and made again. The hash finds damage, not malice: whoever can
write an entry can name it rightly. So an entry must be a regular file of this user's with mode 0600, and a folder
that others could write to is emptied before it is used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path

from ..errors import InputError
from ..files import SourceError, open_regular, remove, sha256, sha256_of, try_lock

_WORK = "making-"
_OPEN_TO_OTHERS = 0o077
_UNUSED = 60 * 86400  # seconds; what nobody has loaded for so long is removed


class CacheError(InputError):
    """The cache folder cannot be trusted or used. `path`."""

    def __init__(self, path: Path, saw: str, wanted: str) -> None:
        super().__init__(f"{path}: {saw}", wanted, "Correct or remove it, or set XDG_CACHE_HOME to another folder.")
        self.path = path


def folder(name: str = "prepared") -> Path:
    """The cache folder, made where it is missing.

    Args:
        name: of the folder in the cache of apa-deploy.

    Raises:
        CacheError: it is a link, somebody else's, or cannot be made.
    """
    path = user_cache_path("apa-deploy") / name
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = path.lstat()
        if path.is_symlink() or about.st_uid != os.getuid():
            raise CacheError(path, "a link or another user's", "a folder of one's own")
        if about.st_mode & _OPEN_TO_OTHERS:
            path.chmod(0o700)
            for entry in path.iterdir():  # anybody may have put it there
                remove(entry)
    except OSError as error:
        raise CacheError(path, error.strerror or str(error), "a folder that can be written") from error
    return path


def find(key: str) -> Path | None:
    """The whole entry of `key`, if there is one; damaged and foreign ones are removed."""
    for path in sorted(folder().glob(f"{key}.*.onnx")):
        with suppress(FileNotFoundError):  # another process removed it
            if _is_whole(path):
                os.utime(path)
                return path
            remove(path)
    return None


def _is_whole(path: Path) -> bool:
    try:
        with open_regular(path, follow=False) as file:
            about = os.fstat(file.fileno())
            private = about.st_uid == os.getuid() and about.st_mode & 0o777 == 0o600 and about.st_nlink == 1
            return private and sha256_of(file) == path.name.split(".")[1]
    except SourceError:
        return False


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder in the cache's file system, locked while it is used; those of killed processes go."""
    for rest in folder().glob(f"{_WORK}*"):
        with suppress(OSError):  # BlockingIOError: somebody works there
            os.close(_lock(rest))
            remove(rest)
    path, lock = _lock_workplace()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _lock_workplace() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(dir=folder(), prefix=_WORK))
        with suppress(FileNotFoundError, BlockingIOError):  # taken for a rest before it was locked
            lock = _lock(path)
            if path.exists():
                return path, lock
            os.close(lock)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try_lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def keep(key: str, made: Path) -> Path:
    """Move `made`, a file in a `workplace`, to its name."""
    _remove_unused()
    made.chmod(0o600)
    return made.rename(folder() / f"{key}.{sha256(made)}.onnx")


def _remove_unused() -> None:
    oldest = time.time() - _UNUSED
    for path in folder().glob("*.onnx"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
