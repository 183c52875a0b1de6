"""A folder of files made from other files: found by a key, verified by their own hash.

    <user's cache>/apa-deploy/prepared/<key>.<sha256 of the file>.onnx        folder 0700, files 0600

A file appears by one rename, so that processes need no lock: two that make the same entry both succeed. A file
that does not have the hash in its name is removed, and made again.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path

from ..errors import InputError
from ..files import sha256

_UNUSED = 60 * 86400  # seconds; what nobody has loaded for so long is removed


class CacheError(InputError):
    """The cache folder cannot be trusted or used. `path`."""

    def __init__(self, path: Path, saw: str, wanted: str) -> None:
        super().__init__(f"{path}: {saw}", wanted, "Mend or remove it, or set XDG_CACHE_HOME to another folder.")
        self.path = path


def folder() -> Path:
    """The cache folder, made where it is missing.

    Raises:
        CacheError: it is a link, somebody else's, or cannot be made.
    """
    path = user_cache_path("apa-deploy") / "prepared"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = path.lstat()
        if path.is_symlink() or about.st_uid != os.getuid():
            raise CacheError(path, "a link or another user's", "a folder of one's own")
        if about.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise CacheError(path, error.strerror or str(error), "a folder that can be written") from error
    return path


def find(key: str) -> Path | None:
    """The whole entry of `key`, if there is one; damaged ones are removed."""
    for path in sorted(folder().glob(f"{key}.*.onnx")):
        with suppress(FileNotFoundError):  # another process removed it
            if sha256(path) == path.name.split(".")[1]:
                os.utime(path)
                return path
            path.unlink()
    return None


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder in the cache's file system."""
    with tempfile.TemporaryDirectory(dir=folder(), prefix="making-") as name:
        yield Path(name)


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
