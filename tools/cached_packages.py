"""Packages of a lock file, in a folder of the user's cache that comes first on PYTHONPATH.

What needs packages that constraints.txt does not hold (the documentation, the frameworks' tests, a release) runs
in the environment that is there, with such a folder in front. The folder is made once for each content of the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path


def cached_packages(
    name: str, lock: Path, *, also: str = "", finish: Callable[[Path], None] = lambda folder: None
) -> Path:
    """The folder with every package that `lock` names, and none that these ask for beyond it.

    Args:
        name: begins the folder's name; its hash follows.
        lock: a requirements file with exact versions.
        also: what else the content depends on.
        finish: completes a fresh folder; where it raises, the folder is made again next time.
    """
    key = lock.read_bytes() + f"{also} {sys.version_info[:2]}".encode()
    folder = user_cache_path("apa-deploy") / "test-environments" / f"{name}-{hashlib.sha256(key).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            print(f"{folder.name}: fetching the packages of {lock.name}", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
            subprocess.run([*pip, "--target", folder, "--requirement", lock], check=True)
            for script in (folder / "bin").iterdir():  # of whichever environment comes first on PATH
                script.write_text(re.sub(r"^#!.*", "#!/usr/bin/env python", script.read_text(), count=1))
            finish(folder)
            (folder / "ready").touch()
    return folder


def with_packages(folder: Path, **variables: str) -> dict[str, str]:
    """The environment variables of a process that has the folder's packages and programs, with some more."""
    bin_ = Path(sys.executable).parent
    return os.environ | variables | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        "PATH": os.pathsep.join((str(folder / "bin"), str(bin_), os.environ["PATH"])),
    }  # fmt: skip
