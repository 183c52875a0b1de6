"""`--version`: a line for people; with `--json` the commit and the native libraries as well."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .. import __version__, native


class PrintVersion(argparse.Action):
    """Prints the version and ends the program."""

    def __init__(self, option_strings: list[str], dest: str, **_: Any) -> None:
        help_ = "print the version; with --json the commit and the native libraries too"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help_)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        if "--json" in sys.argv:
            print(json.dumps(describe_version(), indent=2))
        else:
            print(f"{parser.prog} {__version__}")
        parser.exit()


def describe_version() -> dict[str, Any]:
    """`version`; `commit`: None outside a checkout; `libraries`: each with its path, None where it is not built."""
    paths = {path.name: str(path) if path.is_file() else None for path in native.LIBRARIES}
    return {"version": __version__, "commit": _commit(Path(native.__file__).parents[1]), "libraries": paths}


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
