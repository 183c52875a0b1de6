"""A real server in a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds; for a machine that is busy, never reached on one that works


class ServerProcess:
    """`apa-serve SOURCE ARGUMENTS` on free ports; a context that ends with SIGTERM.

    `log_to`: a file that takes the log instead, of which nothing is read; the ports are then chosen here.
    """

    def __init__(
        self,
        source: Path,
        *arguments: object,
        environment: dict[str, str] | None = None,
        log_to: Path | None = None,
    ) -> None:
        self._log = Path(tempfile.mkdtemp()) / "log"
        self._chosen = _free_ports() if log_to else {}
        kinds = ("http", "grpc", "metrics")
        ports = [text for name in kinds for text in (f"--{name}-port", str(self._chosen.get(name, 0)))]
        command = [sys.executable, "-m", "apa_deploy.cli.serve", str(source), *ports, *map(str, arguments)]
        with (log_to or self._log).open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, **(environment or {})})

    def __enter__(self) -> ServerProcess:
        ready = self._wait_until_it_answers() if self._chosen else self.wait_for("ready")
        self.http = f"127.0.0.1:{ready['http_port']}"
        self.grpc = f"127.0.0.1:{ready['grpc_port']}"
        self.metrics = f"127.0.0.1:{ready['metrics_port']}"
        return self

    def _wait_until_it_answers(self) -> dict[str, int]:
        """Its ports, once it is ready."""
        self.http = f"127.0.0.1:{self._chosen['http']}"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if self.ask("/v2/health/ready")[0] == 200:
                    return {f"{name}_port": port for name, port in self._chosen.items()}
            except OSError:
                time.sleep(0.05)
        raise AssertionError("not ready")

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        self.process.send_signal(number)
        return self.exit_code()

    def exit_code(self) -> int:
        """The exit code, when the process has ended."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running: {self.text()[-2000:]}") from None

    def text(self) -> str:
        """Standard error so far."""
        return self._log.read_text()

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """The log's complete lines of this event, or of every event."""
        lines = [line for line in self.text().split("\n")[:-1] if line.startswith("{")]
        found = [json.loads(line) for line in lines]
        return [event for event in found if not name or event["event"] == name]

    def wait_for(self, name: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """The `count`-th event of this name and these fields, once it is there."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = [event for event in self.events(name) if fields.items() <= event.items()]
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None, self.text()[-2000:]
            time.sleep(0.02)
        raise AssertionError(f"no {name} {fields}: {self.text()[-2000:]}")

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self, name: str = "") -> int:
        """Open file descriptors; `name`: those of files with it in their path."""
        count = 0
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since the folder was listed
                count += name in str(descriptor.readlink())
        return count

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, dict, bytes]:
        """One HTTP request (POST where there is a body): status, headers, body."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.http}{path}", data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def infer(self, rows: list[list[float]], model: str = "act", **fields: Any) -> tuple[int, dict, Any]:
        """One inference in JSON: status, headers, document."""
        size = len(rows[0])
        tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), size], "data": rows}
        status, headers, body = self.ask(f"/v2/models/{model}/infer", {"inputs": [tensor], **fields})
        return status, headers, json.loads(body)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        assert values, f"no metric {name}"
        return sum(map(float, values))


def _free_ports() -> dict[str, int]:
    """Ports of loopback that are free now; all are held until all are known."""
    held = {name: socket.create_server(("127.0.0.1", 0)) for name in ("http", "grpc", "metrics")}
    ports = {name: one.getsockname()[1] for name, one in held.items()}
    for one in held.values():
        one.close()
    return ports
