"""The parent's end of a worker: ask, wait for a limited time, turn a crash or a hang into one clear line."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

from ..child_process import ChildError, cause_of_death, kill_session, last_line
from ..measure.subject import Subject

_GRACE_S = 5


class SubjectError(ChildError):
    """A subject could not be measured. `missing`: the parts of the `MissingError` that it met, where it met one."""

    def __init__(self, reason: str, about: str, missing: tuple[str, str, str] | None = None) -> None:
        super().__init__(reason, "a measurement", "The other artifacts go on.", about=about)
        self.missing = missing


class Worker:
    """One artifact in a process of its own; a context manager that ends it, and whatever it started."""

    def __init__(self, subject: Subject, limit_s: float) -> None:
        self._subject, self._limit = subject, limit_s
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "apa_deploy.bench.worker"],
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
            SubjectError: it refused, died or did not answer in time.
        """
        return self._ask(
            {"subject": asdict(self._subject), "batch": batch, "threads": threads, "warmup": warmup},
            "while it was loaded and warmed up",
        )

    def turn(self, seconds: float, least: int) -> dict[str, Any]:
        """Measure for `seconds`, at least `least` inferences: {"ms", "peak_memory_bytes"}.

        Raises:
            SubjectError: as `load`.
        """
        return self._ask({"turn": seconds, "least": least}, "while it was measured")

    def find_placement(self) -> dict[str, Any]:
        """Which kernels run its activations: {"placement"}, None where its runtime does not say it.

        Raises:
            SubjectError: as `load`.
        """
        return self._ask({"placement": True}, "while it was asked for its kernels")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            self._write(b"{}\n")
            self._process.wait(_GRACE_S)
        kill_session(self._process)
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe:
                pipe.close()

    def _ask(self, asked: dict[str, Any], when: str) -> dict[str, Any]:
        try:
            self._write(json.dumps(asked).encode() + b"\n")
            line = self._line()
        except (BrokenPipeError, EOFError) as error:
            raise self._error(f"{cause_of_death(self._process.wait())} {when}{self._last_words()}") from error
        except TimeoutError as error:
            kill_session(self._process)
            raise self._error(f"no answer within {self._limit:g} s {when}; it was ended") from error
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            missing = answer.get("missing")
            raise SubjectError(answer["error"], self._subject.name, tuple(missing) if missing else None)
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

    def _error(self, reason: str) -> SubjectError:
        return SubjectError(reason, self._subject.name)

    def _last_words(self) -> str:
        self._said.seek(0)
        text = self._said.read().decode(errors="replace")
        return f": {last_line(text)}" if text.strip() else ""
