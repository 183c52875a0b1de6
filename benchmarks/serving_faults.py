"""A fault campaign against apa-serve: whatever happens to it, an accepted request gets an answer.

    python -m benchmarks.serving_faults [--seconds 60] [--seed 0] [--json]

While clients of both protocols ask without a pause, one fault follows the other, in random order: a process of an
isolated model killed; a request that never ends; clients that do not read, that send half a request, that leave,
that send garbage; a model's file replaced and broken; load and unload calls; a log on a full disk. Every request is
accounted for: answered (and the answer is right), refused (an answer that says why), or lost (no answer, or a wrong
one). Exit code 1 if one was lost, if the server ended, or if it could not be stopped with code 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.serving.load import Load
from tests.serving.serving_models import TOLERANCE, large_answer_model, loop_model, small_model, truth
from tests.serving.serving_process import ServerProcess

KAPPAS = (1.0, 2.0)
OPTIONS = (
    "--isolate", "--request-timeout", 4, "--read-timeout", 2, "--write-timeout", 2, "--drain-timeout", 10,
    "--reload-interval", 0.2, "--max-connections", 128, "--max-pending-mib", 256, "--threads", 1, "--max-batch", 4,
)  # fmt: skip


class Faults:
    """What may happen to a server of `folder`: each public method is a fault that it should survive."""

    def __init__(self, server: ServerProcess, folder: Path, seed: int) -> None:
        self._server, self._folder, self._random = server, folder, random.Random(seed)
        self.seen: Counter[str] = Counter()

    def run(self, seconds: float, at_least: int) -> None:
        """One fault after the other, each before any comes again: for so long, and until so many were seen."""
        faults = [name for name in vars(Faults) if not name.startswith("_") and name != "run"]
        end, waiting = time.monotonic() + seconds, []
        while time.monotonic() < end or len(self.seen) < min(at_least, len(faults)):
            if not self._server.alive():
                return
            waiting = waiting or self._random.sample(faults, len(faults))
            name = waiting.pop()
            getattr(self, name)()
            self.seen[name] += 1
            time.sleep(self._random.uniform(0, 0.5))

    def kill_a_process(self) -> None:
        """As the system does where memory runs out."""
        text = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._server.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        pids = [int(pid) for pid in text.split()]
        if pids:
            try:
                os.kill(self._random.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                return

    def hang(self) -> None:
        """A request whose loop turns for minutes; its client waits for the refusal."""
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [9e9] * 4}]}
        threading.Thread(target=self._ask_quietly, args=("/v2/models/loop/infer", body), daemon=True).start()

    def do_not_read(self) -> None:
        """Ten clients with answers of 4.8 MB, of which they take nothing."""
        for connection in [self._send(_request("large")) for _ in range(10)]:
            threading.Timer(3, connection.close).start()

    def send_half(self) -> None:
        for connection in [self._send(_request("act")[:-20]) for _ in range(20)]:
            threading.Timer(3, connection.close).start()

    def leave(self) -> None:
        for _ in range(50):
            self._send(_request("act")).close()

    def stay_idle(self) -> None:
        """More connections than there may be."""
        for connection in [self._send(b"") for _ in range(200)]:
            threading.Timer(1, connection.close).start()

    def send_garbage(self) -> None:
        for _ in range(20):
            self._send(self._random.randbytes(2000)).close()

    def replace_the_file(self) -> None:
        kappa = self._random.choice(KAPPAS)
        small_model(self._folder / ".new", kappa=kappa).replace(self._folder / "act.onnx")

    def break_the_file(self) -> None:
        """The old model stays in service; then a good file follows."""
        path = self._folder / "act.onnx"
        good = path.read_bytes()
        for content in (good[: len(good) // 2], b"", b"garbage" * 100, good):
            (self._folder / ".new").write_bytes(content)
            (self._folder / ".new").replace(path)
            time.sleep(0.3)

    def load_again(self) -> None:
        self._ask_quietly("/v2/repository/models/act/load", {})

    def unload_another(self) -> None:
        self._ask_quietly("/v2/repository/models/loop/unload", {})
        self._ask_quietly("/v2/repository/models/loop/load", {})

    def look_now(self) -> None:
        self._server.process.send_signal(signal.SIGHUP)

    def _ask_quietly(self, path: str, body: object) -> None:
        with contextlib.suppress(OSError):
            self._server.ask(path, body)

    def _send(self, data: bytes) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = self._server.http.split(":")
        with contextlib.suppress(OSError):  # it was refused; that is an answer as well
            connection.connect((host, int(port)))
            connection.sendall(data)
        return connection


def _request(model: str) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}
    body = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def run_campaign(seconds: float, seed: int, full_disk: bool = False) -> dict[str, object]:
    """The account of one campaign; `full_disk`: the log cannot be written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_model(folder / "act.onnx")
        loop_model(folder / "loop.onnx")
        large_answer_model(folder / "large.onnx")
        with ServerProcess(folder, *OPTIONS, log_to=Path("/dev/full") if full_disk else None) as server:
            faults = Faults(server, folder, seed)
            with Load(server, "act", http_clients=3, grpc_clients=3, stays=True) as load:
                faults.run(seconds, at_least=1 if full_disk else len(vars(Faults)))
                alive = server.alive()
            memory = server.memory() if alive else 0
            code = server.stop() if alive else server.exit_code()
        outcome = load.outcome
        reasons = Counter(text[:80] for text in (*outcome.refused.values(), *outcome.lost.values()))
        wrong = [x for x, y in outcome.answers.values() if not _is_right(x, y)]
        return {
            "accepted": len(outcome.answers) + len(outcome.refused) + len(outcome.lost),
            "answered": len(outcome.answers) - len(wrong),
            "refused": len(outcome.refused),
            "lost": len(outcome.lost) + len(wrong),
            "wrong": len(wrong),
            "reasons": reasons.most_common(5),
            "server ended": not alive,
            "exit code": code,
            "MiB at the end": memory >> 20,
            "faults": dict(faults.seen),
        }


def _is_right(x: np.ndarray, y: np.ndarray) -> bool:
    return any(np.allclose(y, truth(x, kappa)["y"], rtol=0, atol=TOLERANCE) for kappa in KAPPAS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="default 60; an hour by hand: 3600")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.seconds <= 0:
        parser.error("--seconds: a positive number")
    phases = {
        "faults": run_campaign(0.8 * given.seconds, given.seed),
        "full disk": run_campaign(0.2 * given.seconds, given.seed + 1, full_disk=True),
    }
    counts = ("accepted", "answered", "refused", "lost")
    account = {name: sum(int(str(phase[name])) for phase in phases.values()) for name in counts}
    bad = account["lost"] or any(phase["server ended"] or phase["exit code"] for phase in phases.values())
    if given.json:
        print(json.dumps({**account, "phases": phases}, indent=2))
    else:
        print("  ".join(f"{name} {value}" for name, value in account.items()))
        for name, phase in phases.items():
            print(f"{name}: {json.dumps(phase)}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
