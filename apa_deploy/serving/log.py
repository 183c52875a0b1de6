"""JSON lines on standard error, written by a thread so that a slow reader never stops the server."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
import time
from typing import Any, TextIO

_BACKLOG = 10_000  # lines; beyond, they are dropped and counted, for memory must not grow with a stuck reader


class JsonLog:
    """`info("loaded", model="m")` -> {"time": ..., "level": "info", "event": "loaded", "model": "m"}"""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(_BACKLOG)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="apa-log", daemon=True)
        self._thread.start()

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self._put("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that the operator should know."""
        self._put("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed."""
        self._put("error", event, fields)

    def close(self) -> None:
        """Write what waits, and stop."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=1)
        self._thread.join(timeout=5)

    def _put(self, level: str, event: str, fields: dict[str, Any]) -> None:
        try:
            self._lines.put_nowait({"time": time.time(), "level": level, "event": event, **fields})
        except queue.Full:
            self._dropped += 1

    def _write(self) -> None:
        while (fields := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                fields["dropped_before"] = dropped
            try:
                self._stream.write(json.dumps(fields | {"time": _iso(fields["time"])}) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more: serving goes on
                return


class Forward(logging.Handler):
    """Sends the records of a library's logger to a `JsonLog`."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning("library", logger=record.name, message=record.getMessage())


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
