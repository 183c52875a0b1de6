"""The parent's end of a worker: ask, wait for a limited time, turn a crash or a hang into one clear line."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

from ..errors import ApaError
from .subject import Subject

_LINE = 160
_GRACE_S = 5


class WorkerError(ApaError):
    """A worker could not measure. `reason`: one line."""

    exit_code = 1

    def __init__(self, subject: Subject, reason: str) -> None:
        super().__init__(f"{subject.name}: {reason}", "a measurement", "The other artifacts go on.")
        self.reason = reason


class Worker:
    """One artifact in a process of its own; a context manager that ends it, and whatever it started."""

    def __init__(self, subject: Subject, limit_s: float) -> None:
        self._subject, self._limit = subject, limit_s
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "apa_deploy.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            bufsize=0,
            start_new_session=True,
        )
        self._rest = b""

    def load(self, batch: int, threads: int | None, warmup: int) -> dict[str, Any]:
        """Load the artifact and warm it up: {"load_s", "runtime"}.

        Raises:
            WorkerError: it refused, died or did not answer in time.
        """
        return self._ask(
            {"subject": asdict(self._subject), "batch": batch, "threads": threads, "warmup": warmup},
            "while it was loaded and warmed up",
        )

    def turn(self, seconds: float, least: int) -> dict[str, Any]:
        """Measure for `seconds`, at least `least` inferences: {"ms", "peak_memory_bytes"}.

        Raises:
            WorkerError: as `load`.
        """
        return self._ask({"turn": seconds, "least": least}, "while it was measured")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            self._write(b"{}\n")
            self._process.wait(_GRACE_S)
        self._kill()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe:
                pipe.close()

    def _ask(self, asked: dict[str, Any], when: str) -> dict[str, Any]:
        try:
            self._write(json.dumps(asked).encode() + b"\n")
            line = self._line()
        except (BrokenPipeError, EOFError) as error:
            raise WorkerError(self._subject, f"{self._death()} {when}{self._last_words()}") from error
        except TimeoutError as error:
            self._kill()
            raise WorkerError(self._subject, f"no answer within {self._limit:g} s {when}; it was ended") from error
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(self._subject, answer["error"])
        return answer

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None  # it is a pipe
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        end, file = time.monotonic() + self._limit, self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(file, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                piece = os.read(file, 1 << 16)
                if not piece:
                    raise EOFError
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _death(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"its process ended with code {code}"
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (", as when memory runs out," if name == "SIGKILL" else "")

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1].strip()[:_LINE]}" if lines else ""

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
