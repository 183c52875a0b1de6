"""What every verb shares: the exit codes, `--debug`, `--json` and how an error is shown.

Exit codes: 0 good; 1 a gate failed; 2 misuse or bad input; 3 this machine lacks something.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import math
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ApaError, find_refusal
from ..escaping import in_json
from ..terminal import Terminal, print_error
from . import leave_at_once
from .version import PrintVersion

INTERRUPTED = 130
_LAST_PORT = 65535
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED_PIPE = 141  # as a shell reports a program that SIGPIPE ended
_SIGNALLED = 128  # a shell's exit code for a process that a signal ended, less the signal's number


class VerbParser(argparse.ArgumentParser):
    """Misuse is one error of three parts; the usage stays where it was asked for, in `--help`."""

    def error(self, message: str) -> NoReturn:
        """Print what was seen, what was wanted and what to do; exit 2."""
        saw, wanted, do = _misuse(message, [option for action in self._actions for option in action.option_strings])
        print_error(f"{saw}; wanted {wanted}. {do or f'{self.prog} --help lists every option.'}")
        raise SystemExit(2)


def _misuse(message: str, options: Sequence[str]) -> tuple[str, str, str]:
    """argparse's message as our three parts; the last is empty where nothing better is known than `--help`."""
    if unknown := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
        first = unknown[1].split("=")[0].split(" ")[0]
        # without the dashes, which every option shares
        near = difflib.get_close_matches(first.lstrip("-"), [option.lstrip("-") for option in options], 1)
        wanted = "an option of this command" if first.startswith("-") else "nothing more"
        return f"unknown {unknown[1]}", wanted, f"Did you mean --{near[0]}?" if near else ""
    if lacking := re.fullmatch(r"the following arguments are required: (.*)", message):
        return f"no {lacking[1]}", "it on the command line", ""
    if choice := re.fullmatch(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)", message, re.DOTALL):
        near = difflib.get_close_matches(choice[2].strip("'"), re.findall(r"[^', ]+", choice[3]), 1)
        do = f"Did you mean {near[0]}?" if near else "Choose one of these."
        return f"{choice[1]} {choice[2]}", f"one of {choice[3].replace(chr(39), '')}", do
    if value := re.fullmatch(r"argument (\S+): (.*): wanted (.*)", message, re.DOTALL):
        others = value[1] == "--input-shape" and "--input" in options
        do = "Correct the value; names, types and open sizes: --input NAME=SHAPE[:DTYPE]." if others else ""
        return f"{value[1]} {value[2]}", value[3], do or "Correct the value."
    if value := re.fullmatch(r"argument ([^:]+): expected (.*)", message):
        return f"{value[1]} without a value", value[2].replace("argument", "value"), ""
    if value := re.fullmatch(r"argument (\S+): ignored explicit argument (.*)", message, re.DOTALL):
        return f"{value[1]} with the value {value[2]}", "none", ""
    if value := re.fullmatch(r"argument (\S+): invalid \S+ value: (.*)", message, re.DOTALL):
        return f"{value[1]} {value[2]}", "a number", "Correct the value."
    return message, "a command line that can be understood", ""


def verb_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every verb has."""
    parser = VerbParser(prog=name, description=description, allow_abbrev=False)
    parser.add_argument("--version", action=PrintVersion)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_report(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--report FILE`, of every verb that finds something out."""
    help_ = "write a report: .html (one page), .md or .json"
    parser.add_argument("--report", metavar="FILE", type=Path, help=help_)


def count_of(text: str, least: int = 1) -> int:
    """Argument type: a whole number from `least`."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a whole number from {least}")
    return int(text)


def port_of(text: str) -> int:
    """Argument type: a port, 0 to 65535."""
    if (port := count_of(text, 0)) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a port, 0 to {_LAST_PORT}")
    return port


def seconds_of(text: str) -> float:
    """Argument type: seconds above 0, finite."""
    seconds = _number(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted seconds above 0, e.g. 0.5")
    return seconds


def limit_of(text: str) -> float:
    """Argument type: a finite number from 0."""
    limit = _number(text)
    if not 0 <= limit < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted 0 or more, e.g. 1e-3")
    return limit


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def run_verb(
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv`, run `action` and turn every error into one message and an exit code.

    The options also tell the whole `command`, for the report.
    """
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a letter that LANG=C lacks is no reason to fail
    given = sys.argv[1:] if argv is None else list(argv)
    options = argparse.Namespace(debug=False)
    try:
        options = parser.parse_intermixed_args(given)  # a file may follow an option
        if signal.getsignal(signal.SIGINT) is leave_at_once:  # argparse would make another error of an interrupt
            signal.signal(signal.SIGINT, signal.default_int_handler)
        options.command = shlex.join([parser.prog, *given])
        if libraries := getattr(options, "libraries", None):
            from ..runtimes.ort_session import use_libraries

            use_libraries(libraries)
        with _ending_on_signals():
            code = action(options)
        sys.stdout.flush()
        return code
    except _Terminated as ended:
        print("terminated; nothing was left half-written", file=sys.stderr)
        return _SIGNALLED + ended.signal
    except KeyboardInterrupt:
        print("interrupted; nothing was left half-written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return _CLOSED_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            _drop_output()
            print_error(
                f"standard output or a temporary file: {error.strerror}; wanted room to write. Free some space."
            )
            return 2
        if options.debug:
            traceback.print_exc()
        print_error(describe(error))
        return error.exit_code if isinstance(error, ApaError) else 2


def _drop_output() -> None:
    """Send what is left of standard output nowhere: Python would complain about it as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    if refusal := find_refusal(error):
        return str(refusal)
    first_line = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first_line}. Run again with --debug for the traceback."


def add_ort_library(group: argparse._ActionsContainer) -> None:
    """Custom operators of the user's models; `run_verb` lets every session have them."""
    help_ = "library of other custom operators that a model needs; repeatable"
    group.add_argument(
        "--ort-library", dest="libraries", type=Path, action="append", default=[], metavar="SO", help=help_
    )


def wide_console() -> Terminal:
    """Standard output; where it is no terminal, as wide as the text needs."""
    return Terminal()


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, `value` or a pydantic model of it, in ASCII."""
    text = value if isinstance(value, str) else _document(value)
    print(in_json(text), flush=True)


def _document(value: Any) -> str:
    if hasattr(value, "model_dump_json"):
        return str(value.model_dump_json(indent=2))
    return json.dumps(value, indent=2, sort_keys=True)


def shape_of(text: str) -> tuple[int, ...]:
    """Argument type: CxHxW, or another rank."""
    sizes = text.split("x")
    if not all(re.fullmatch(r"0*[1-9]\d*", size) for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted CxHxW with positive sizes, e.g. 3x224x224")
    return tuple(map(int, sizes))
