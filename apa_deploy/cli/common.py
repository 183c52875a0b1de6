"""What every verb shares: the exit codes, `--debug`, `--json` and how an error is shown.

Exit codes: 0 good; 1 a gate failed; 2 misuse or bad input; 3 this machine lacks something.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from .. import __version__
from ..errors import ApaError

INTERRUPTED = 130
_SIGNALLED = 128  # a shell's exit code for a process that a signal ended, less the signal's number
_PIPED_WIDTH = 160


def verb_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every verb has."""
    parser = argparse.ArgumentParser(prog=name, description=description, allow_abbrev=False)
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
        with _ending_on_signals():
            return action(options)
    except _Terminated as ended:
        print("terminated; nothing was left half-written", file=sys.stderr)
        return _SIGNALLED + ended.signal
    except KeyboardInterrupt:
        print("interrupted; nothing was left half-written", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, ApaError) else 2


class _Terminated(BaseException):
    """SIGTERM or SIGHUP came: unwinds like Ctrl-C, so that temporary files go. `signal`: its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP clean up as Ctrl-C does; a server sets handlers of its own over these."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: object) -> None:
        raise _Terminated(number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def shape_of(text: str) -> tuple[int, ...]:
    """Argument type: CxHxW, or another rank."""
    sizes = text.split("x")
    if not all(re.fullmatch(r"0*[1-9]\d*", size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted CxHxW with positive sizes, e.g. 3x224x224")
    return tuple(map(int, sizes))
