"""Write whole files or none: a temporary name in the target folder, then a rename. Read regular files only."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

PASSPORT_SUFFIX = ".passport.json"
_CHUNK = 1 << 20
LARGEST_TEXT = 64 << 20  # bytes of a passport, a list of names, a configuration
_ANY_WRITE = 0o222
_LONGEST_STEM = 180  # characters of a file's name that its staging folder repeats: file systems take 255 bytes

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
    """Raise `OutputError` if `path` exists without `force`, or may not be replaced: call it before long work."""
    if not path.exists():
        return
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a rename would put a file in the place of /dev/null
        raise OutputError(path, "is a pipe or a device", "Choose the name of a file.")
    if not force:
        raise OutputError(path, "exists already", "Pass --force to replace it.")
    if not mode & _ANY_WRITE:
        raise OutputError(path, "is read-only", "Make it writable, or choose another name with -o.")


@contextmanager
def replace_file(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary file (or folder) name beside `path`; on success it becomes `path`, else it is removed.

    Raises:
        OutputError: `path` exists without `force`, or the file system refuses.
    """
    with stage_files([path], force=force) as folder:
        yield folder / path.name


@contextmanager
def stage_files(paths: Sequence[Path], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `paths`; what was made there under their names moves to them together.

    `paths` lie in one folder. On failure nothing of them is left, and what stood there before still stands. The
    folder's name follows from the first of `paths`, and its maker holds a lock on it: a second writer of the same
    output is refused at once (it waits with `force`), and what a killed writer left is removed by the next one.

    Raises:
        OutputError: one of `paths` exists without `force`, is being written, or the file system refuses.
    """
    try:
        for path in paths:
            refuse_existing(path, force=force)
        with _staging_folder(paths[0], wait=force) as temporary:
            yield temporary
            for path in paths:
                if (temporary / path.name).exists():
                    refuse_existing(path, force=force)  # nobody else made it meanwhile
            for path in paths:
                if (temporary / path.name).exists():
                    _move(temporary / path.name, path)
    except OSError as error:
        advice = _OS_ADVICE.get(error.errno or 0, "check the folder and try again")
        raise OutputError(paths[0], os.strerror(error.errno or 0), f"To go on, {advice}.") from error


@contextmanager
def _staging_folder(path: Path, *, wait: bool) -> Iterator[Path]:
    """The staging folder of `path`, empty and locked; removed at the end."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    folder = path.parent / f".{path.stem[:_LONGEST_STEM]}.{digest}.tmp"
    lock = _lock_folder(folder, path, wait=wait)
    try:
        for rest in folder.iterdir():  # of a writer that was killed
            remove(rest)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock_folder(folder: Path, path: Path, *, wait: bool) -> int:
    """Make `folder` and lock it; a descriptor that holds the lock."""
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # its owner finished between the two calls
            continue
        try:
            try_lock(lock)
        except BlockingIOError:
            if not wait:
                os.close(lock)
                do = "Wait for it, or choose another name with -o."
                raise OutputError(path, "another process is writing it", do) from None
            print(f"apa-deploy: waiting for another process that writes {path.name!r}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), folder.lstat()):
                return lock
        os.close(lock)  # the folder of a finished writer, removed while this one waited


def try_lock(descriptor: int) -> None:
    """Lock an open file or folder for this process alone, where the file system knows locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some network file systems have none; the rename still keeps outputs whole
        pass


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _move(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.is_dir():
        shutil.rmtree(path)
    temporary.replace(path)


class SourceError(InputError):
    """An input is no regular file, or cannot be read. `path`, `reason`."""

    def __init__(self, path: Path, saw: str, do: str = "Check the path.") -> None:
        super().__init__(f"{path}: {saw}", "a regular file that can be read", do)
        self.path, self.reason = path, saw


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; never a folder, a pipe or a device, whose reading might not end.

    Args:
        path: the file.
        follow: whether `path` may be a link.

    Raises:
        SourceError: it is something else, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise SourceError(path, error.strerror or "unreadable") from error
    except ValueError as error:  # a NUL in its name
        raise SourceError(path, str(error)) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise SourceError(path, "a folder" if stat.S_ISDIR(mode) else "a pipe or a device")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int = LARGEST_TEXT) -> bytes:
    """What a regular file holds.

    Raises:
        SourceError: see `open_regular`; or it has more than `most` bytes.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise SourceError(path, f"more than {most:,} bytes", "Check what it holds.")
    return content


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a regular file.

    Raises:
        SourceError: see `read_bytes`; or it is no text.
    """
    try:
        return read_bytes(path).decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceError(path, f"no text ({error.reason})", "Save it as UTF-8.") from error


def check_regular(path: Path) -> None:
    """Raise `SourceError` unless `path` is a regular file that can be read."""
    open_regular(path).close()


def sha256(path: Path) -> str:
    """Hex digest of a regular file, read in chunks.

    Raises:
        SourceError: see `open_regular`.
    """
    with open_regular(path) as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """Hex digest of what is left to read of an open file."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
