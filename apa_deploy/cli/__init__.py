"""Command-line verbs: parse, call one function of the library, print one result."""

import os
import signal
import sys


def leave_at_once(number: int, _frame: object = None) -> None:
    """End the process as this signal ends one, without a word: there is nothing to clean up yet."""
    os._exit(128 + number)


if os.path.basename(sys.argv[0]).startswith("apa-"):  # noqa: PTH119 - pathlib would be imported before it
    # Ctrl-C while the verb is still imported is no traceback, and the first process of a container ends at SIGTERM
    # only where it says so; `run_verb` takes the signals over
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave_at_once)
