"""What every verb shares: the exit codes, `--debug`, `--json` and how an error is shown.

Exit codes: 0 good; 1 a gate failed; 2 misuse or bad input; 3 this machine lacks something.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from .. import __version__
from ..errors import ApaError

INTERRUPTED = 130
_PIPED_WIDTH = 160


def verb_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every verb has."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_report(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--report FILE`, of every verb that finds something out."""
    help_ = "write a report: .html (one page), .md or .json"
    parser.add_argument("--report", metavar="FILE", type=Path, help=help_)


def run_verb(
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv`, run `action` and turn every error into one message and an exit code.

    The options also tell the whole `command`, for the report.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    options = parser.parse_args(given)
    options.command = shlex.join([parser.prog, *given])
    try:
        return action(options)
    except KeyboardInterrupt:
        print("interrupted; nothing was left half-written", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, ApaError) else 2


def describe(error: BaseException) -> str:
    """One message for an error: its own where it is ours, a short one where it is not."""
    if isinstance(error, ApaError):
        return str(error)
    first_line = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first_line}. Run again with --debug for the traceback."


def wide_console() -> Console:
    """Standard output; where it is no terminal, wide enough that tables keep one line a row."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH, markup=False)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(value, indent=2, sort_keys=True))
