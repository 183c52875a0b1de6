"""Fetch a pinned build input by name: announced, checked by sha256, cached, and never where APA_NO_FETCH=1.

Standard library only, because a build runs it before anything is installed. Packages are asked for by
name through the machine's own clients (pip, apt), so that its configured mirrors are obeyed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN_WHEELS = Path("/usr/share/python-wheels")  # where Debian keeps what ensurepip carries elsewhere


class FetchError(Exception):
    """A build input is not there and was not fetched; the text says why and what to do."""


def announce(text: str) -> None:
    """Say on stderr what the build does: stdout carries the result."""
    print(f"apa-deploy: {text}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where fetched inputs are kept: $APA_FETCH_CACHE, else a folder of the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("APA_FETCH_CACHE") or Path(base) / "apa-deploy" / "fetch")


def allowed(what: str) -> None:
    """Raise `FetchError` where the user forbade fetching."""
    if os.environ.get("APA_NO_FETCH", "0") not in ("", "0"):
        raise FetchError(f"{what} is not here and APA_NO_FETCH forbids fetching it")


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The cached folder `name`; `make(folder)` fills it the first time. Two builds at once are safe."""
    target = cache_folder() / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(target.parent) as scratch:
        make(scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".fetching-", dir=beside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def checked(path: Path, sha256: str) -> Path:
    """`path` if its sha256 is the pinned one, else raise `FetchError`."""
    seen = hashlib.sha256(path.read_bytes()).hexdigest()
    if seen != sha256:
        raise FetchError(f"{path.name} has sha256 {seen}, the pinned one is {sha256}: it is not used")
    return path


def wheel(requirement: str, sha256: str | None, into: Path, *options: str) -> Path:
    """Download one wheel by name with pip into the folder `into` and return its path.

    `requirement` is pinned ("name==version"). `sha256` None: pip's own check alone.
    `options` go to `pip download` (for example "--platform", "manylinux2014_x86_64").
    """
    allowed(requirement)
    announce(f"fetching {requirement} with pip")
    run(
        [
            *_pip(),
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            *options,
            "-d",
            str(into),
            requirement,
        ]
    )
    found = sorted(into.glob(requirement.split("==")[0].replace("-", "[-_]") + "-*.whl"))
    if not found:
        raise FetchError(f"pip downloaded no wheel for {requirement}")
    return checked(found[0], sha256) if sha256 else found[0]


def unpacked(archive: Path, prefix: str, into: Path) -> Path:
    """Unpack the members of a wheel below `prefix` into `into`; return the folder `into/prefix`."""
    with zipfile.ZipFile(archive) as members:
        members.extractall(into, [name for name in members.namelist() if name.startswith(prefix)])
    return into / prefix


def _pip() -> list[str]:
    """A pip to run: this interpreter's, the one in PATH, or the one that Python carries for ensurepip.

    An isolated build sees no pip of its own.
    """
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip") or shutil.which("pip3"):
        return [found]
    folders = (Path(sysconfig.get_path("stdlib"), "ensurepip/_bundled"), DEBIAN_WHEELS)
    bundled = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    if not bundled:
        raise FetchError("no pip found to fetch with: install pip")
    return [sys.executable, f"{bundled[-1]}/pip"]


def run(command: list[str], cwd: Path | None = None) -> str:
    """Run a client, return its stdout; its failure is a `FetchError` with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise FetchError(f"{' '.join(command[:2])} failed ({done.returncode}): {' '.join(last)}")
    return str(done.stdout)


def report(find: Callable[[], Path]) -> int:
    """Print what `find` returns on stdout and return 0; say why not and return 3 where it is not fetched."""
    try:
        print(find())
    except FetchError as error:
        announce(str(error))
        return 3
    return 0
