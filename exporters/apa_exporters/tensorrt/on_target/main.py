"""Build the engine of this bundle, judge it against the golden outputs, time it, and write it with its passport.

Wanted here: an NVIDIA GPU, and `pip install 'tensorrt>=10.7' polygraphy numpy onnx`. Exit codes: 0 good; 1 a gate
failed, nothing is written; 2 misuse, or a file of the bundle was changed; 3 something that this machine lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import machine
from .checksums import check_sums
from .escaping import printable
from .monitor import Report
from .recipe import read_recipes
from .refusal import MISUSE, RefusalError


def main(folder: Path, argv: Sequence[str] | None = None) -> int:
    """Run the bundle in `folder`; the exit code."""
    options = _parser().parse_args(argv)
    report = _json_lines() if options.reports else _lines
    try:
        check_sums(folder)
        gpu = machine.check()
        result = _result(folder, options, gpu, report)
    except RefusalError as refusal:
        report(error=str(refusal), code=refusal.code, checks=getattr(refusal, "checks", []))
        return refusal.code
    report(result=result)
    return 0


def _result(folder: Path, options: argparse.Namespace, gpu: machine.Gpu, report: Report) -> dict[str, Any]:
    from polygraphy.logger import G_LOGGER

    from .build import build_and_judge
    from .record import write_record

    G_LOGGER.module_severity = G_LOGGER.WARNING
    recipes = read_recipes(folder)
    if options.plugin:
        if not options.plugin.is_file():
            raise RefusalError(f"--plugin {options.plugin}", "a file", "Build one: see README.md.", MISUSE)
        given = str(options.plugin.resolve())
        recipes = {home: replace(recipe, plugin=given) for home, recipe in recipes.items()}
    engine = next(iter(recipes.values())).engine
    out = (options.output or folder.parent).resolve()
    if not out.is_dir() or ((out / engine).exists() and not options.force):
        saw = f"{out / engine} exists" if out.is_dir() else f"{out} is no folder"
        raise RefusalError(
            saw, "a folder for the engine", "Choose another with -o, or replace it with --force.", MISUSE
        )
    kept = options.timing_cache
    if kept and (kept.is_dir() or not kept.absolute().parent.is_dir()):  # told before the builds, not after them
        raise RefusalError(f"--timing-cache {kept}", "a file in a folder that is there", "Make the folder.", MISUSE)
    with _copy_out(kept) as cache:
        verdict = build_and_judge(recipes, gpu, report, cache)
    return write_record(out, verdict, gpu)


@contextmanager
def _copy_out(kept: Path | None) -> Iterator[Path]:
    """A timing cache to work on, `kept` in the end; Polygraphy leaves a lock beside the one it uses."""
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "timing.cache"
        if kept and kept.exists():
            shutil.copy(kept, cache)
        yield cache
        if kept:
            part = kept.with_name(f".{kept.name}.part")
            shutil.copy(cache, part)
            part.replace(kept)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where the engine goes (default: beside)")
    parser.add_argument("--force", action="store_true", help="replace an engine that is there")
    parser.add_argument("--plugin", type=Path, metavar="FILE", help="a plugin library that you built yourself")
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help="keep what was learned of kernels here")
    parser.add_argument("--reports", action="store_true", help="progress and result as lines of JSON")
    return parser


def _json_lines() -> Report:
    """JSON on standard output; whatever a library prints goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda **fields: print(json.dumps(fields), file=stream)


def _lines(**fields: Any) -> None:
    if "error" in fields:
        print(printable(f"error: {fields['error']}"), file=sys.stderr)
    elif "result" in fields:
        print("\n".join(map(printable, fields["result"]["said"])))
    elif "say" in fields:
        print(printable(fields["say"]), file=sys.stderr)
    elif fields.get("steps") and fields.get("parent") is None:
        print(printable(f"  {fields['phase']}"), file=sys.stderr)
