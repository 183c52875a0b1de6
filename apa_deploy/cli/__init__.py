"""Command-line verbs: parse, call one function of the library, print one result."""

import os
import signal
import sys


def leave_at_once(*_: object) -> None:
    """End the process as an interrupted one, without a word: there is nothing to clean up yet."""
    os._exit(128 + signal.SIGINT)


if os.path.basename(sys.argv[0]).startswith("apa-"):  # noqa: PTH119 - pathlib would be imported before it
    # Ctrl-C while the verb is still imported is no traceback; `run_verb` takes the signal over
    signal.signal(signal.SIGINT, leave_at_once)
