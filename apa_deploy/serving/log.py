"""JSON lines on standard error, written by a thread so that a slow reader never stops the server."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

_BACKLOG = 10_000  # lines; beyond, they are dropped and counted, for memory must not grow with a stuck reader
_REPEAT, _KINDS = 10.0, 256  # seconds for which a library's message is not repeated; messages remembered
_GATHER = 0.02  # seconds; waking the writer for every line would cost more than the line


class JsonLog:
    """`info("loaded", model="m")` -> {"time": ..., "level": "info", "event": "loaded", "model": "m"}"""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._some, self._closing = threading.Event(), threading.Event()
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
        self._closing.set()
        self._some.set()
        self._thread.join(timeout=5)

    def _put(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if len(self._lines) >= _BACKLOG:
            self._dropped += 1
            return
        self._lines.append({"time": time.time(), "level": level, "event": event, **fields})
        if not self._some.is_set():
            self._some.set()

    def _write(self) -> None:
        while not (self._closing.is_set() and not self._lines):
            self._some.wait()
            self._closing.wait(_GATHER)
            self._some.clear()
            try:
                self._stream.write("".join(self._take_lines()))
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more: serving goes on
                return

    def _take_lines(self) -> list[str]:
        lines = [_line(self._lines.popleft()) for _ in range(len(self._lines))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(_line({"time": time.time(), "level": "warning", "event": "dropped", "lines": dropped}))
        return lines


class Forward(logging.Handler):
    """Sends the records of a library's logger to a `JsonLog`; of equal ones, the first and then a count."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._seen: dict[tuple[str, object], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        key, now = (record.name, record.msg if isinstance(record.msg, str) else ""), time.monotonic()
        since, more = self._seen.get(key, (-_REPEAT, 0))
        if now - since < _REPEAT:
            self._seen[key] = since, more + 1
            return
        if len(self._seen) > _KINDS:
            self._seen.clear()
        self._seen[key] = now, 0
        fields = {"more_since_the_last": more} if more else {}
        self._log.warning("library", logger=record.name, message=record.getMessage()[:2000], **fields)


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields | {"time": _iso(fields["time"])}) + "\n"


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
