"""Print the folder that holds onnxruntime_c_api.h.

Looked for in $ONNXRUNTIME_ROOT, then /usr/include/onnxruntime, then fetched: the pinned Debian package
libonnxruntime-dev, through apt, with a list folder of its own (the system's stays as it is) and from the
mirror that the system's own sources name, so that it is found on Debian 12 as well, which has no such
package. Only its headers are unpacked; they are the same on every architecture.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import common

PACKAGE, SUITE, ARCHITECTURE = "libonnxruntime-dev", "trixie", "amd64"
VERSION = "1.21.0+dfsg-1"
SHA256 = "14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08"
HEADER = "onnxruntime_c_api.h"
DO = "Set ONNXRUNTIME_ROOT to a folder with include/ of an ONNX Runtime release >= 1.21 and build again."


def find() -> Path:
    """The folder of the header: given, installed or fetched."""
    present = next(_present(), None)
    if present:
        return present
    if os.environ.get("ONNXRUNTIME_ROOT"):
        raise common.FetchError(f"no {HEADER} under ONNXRUNTIME_ROOT={os.environ['ONNXRUNTIME_ROOT']}. {DO}")
    try:
        return common.kept(f"{PACKAGE}-{VERSION}", _fetch) / "onnxruntime"
    except common.FetchError as error:
        raise common.FetchError(f"{error}. {DO}") from error


def _present() -> Iterator[Path]:
    root = os.environ.get("ONNXRUNTIME_ROOT")
    if not root:
        bases = [Path("/usr/include/onnxruntime")]
    else:
        bases = [
            Path(root) / below
            for below in ("", "include", "include/onnxruntime", "include/onnxruntime/core/session")
        ]
    return (base for base in bases if (base / HEADER).is_file())


def _fetch(folder: Path) -> None:
    """Fill `folder` with `onnxruntime/*.h`."""
    common.allowed(f"{PACKAGE} (the ONNX Runtime headers)")
    common.announce(f"fetching the ONNX Runtime headers: Debian {SUITE}'s {PACKAGE} {VERSION}, through apt")
    work = folder / "apt"
    package = common.checked(_downloaded(work), SHA256)
    common.run(["dpkg-deb", "-x", str(package), str(work / "root")])
    shutil.copytree(work / "root/usr/include/onnxruntime", folder / "onnxruntime")
    shutil.rmtree(work)


def _downloaded(work: Path) -> Path:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise common.FetchError("no apt on this machine to fetch the ONNX Runtime headers with")
    for below in ("lists/partial", "cache/archives/partial"):
        (work / below).mkdir(parents=True)
    for empty in ("status", "sources.list"):
        (work / empty).touch()
    (work / "sources.list").write_text(f"deb [{_trust()}] {_mirror()} {SUITE} main\n")
    apt = ["apt-get", "--quiet", *_isolated(work)]
    common.run([*apt, "update"])
    common.run([*apt, "download", f"{PACKAGE}={VERSION}"], cwd=work)
    return next(work.glob("*.deb"))


def _isolated(work: Path) -> list[str]:
    """Options that keep apt off the system's lists, sources, cache and status."""
    settings = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::State::Status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Architecture": ARCHITECTURE,
        "APT::Architectures": ARCHITECTURE,
        "APT::Sandbox::User": "",
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _trust() -> str:
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    return f"signed-by={keyring}" if keyring.is_file() else "trusted=no"


def _mirror() -> str:
    """The Debian mirror that this system's own sources name."""
    listed = common.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(CREATED_BY)"])
    for line in listed.splitlines():
        uri, component, kind = line.split()
        if component == "main" and kind == "Packages" and uri.rstrip("/").endswith("/debian"):
            return uri
    raise common.FetchError("the system's apt sources name no Debian mirror")


if __name__ == "__main__":
    sys.exit(common.report(find))
