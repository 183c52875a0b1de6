"""One request that takes for ever: the others, the probes, and the end of the server do not wait for it."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import pytest
from serving_models import loop_model, open_size_model, small_model
from serving_process import ServerProcess

ROW = [[1.0, 2.0, 3.0, 4.0]]
FOR_EVER = 9e9  # turns; minutes
LONG = 4_000_000  # steps; half a minute or more, in one operator


class Request(threading.Thread):
    """One inference in the background."""

    def __init__(self, server, model, array):
        super().__init__()
        self.status, self._server, self._model, self._array = 0, server, model, array
        self.start()

    def run(self):
        tensor = {"name": "x", "datatype": "FP32", "shape": list(self._array.shape)}
        tensor["parameters"] = {"binary_data_size": self._array.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        try:
            path = f"/v2/models/{self._model}/infer"
            self.status = self._server.ask(path, head + self._array.tobytes(), headers)[0]
        except OSError:
            self.status = -1


def endless(server):
    return Request(server, "loop", np.full((1, 4), FOR_EVER, np.float32))


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def source(tmp_path):
    loop_model(tmp_path / "loop.onnx")
    open_size_model(tmp_path / "open.onnx")
    small_model(tmp_path / "act.onnx")
    return tmp_path


SLOW = [
    ("a loop", "loop", np.full((1, 4), 1e6, np.float32), np.ones((1, 4), np.float32)),
    ("a size", "open", np.zeros((100_000, 1, 1), np.float32), np.zeros((4, 1, 1), np.float32)),
]


@pytest.mark.parametrize(("model", "slow", "quick"), [c[1:] for c in SLOW], ids=[c[0] for c in SLOW])
def test_a_slow_request_after_hundreds_of_quick_ones_holds_up_nobody(source, model, slow, quick):
    """In terms of order, not of time: everything below is answered while the slow one runs."""
    with ServerProcess(source, "--threads", 1) as server:
        for _ in range(150):
            request = Request(server, model, quick)
            request.join()
            assert request.status == 200
        one = Request(server, model, slow)
        wait_until(lambda: server.metric("apa_executing"))
        statuses = {server.ask("/v2/health/live")[0] for _ in range(5)} | {server.infer(ROW)[0] for _ in range(5)}
        still_at_work = server.metric("apa_executing")
        one.join()
    assert statuses == {200}
    assert still_at_work
    assert one.status == 200


def test_large_json_holds_up_nobody(source):
    """20 MB of numbers take a second to read, in which Python runs nothing else of the same process."""
    count = 3_000_000
    tensor = {"name": "x", "datatype": "FP32", "shape": [count, 1, 1], "data": [0.5]}
    text = json.dumps({"inputs": [tensor]}).encode().replace(b"[0.5]", b"[" + b"0.5000," * (count - 1) + b"0.5]")
    with ServerProcess(source, "--request-timeout", 600) as server:
        longest, answer = 0.0, {}
        thread = threading.Thread(target=lambda: answer.update(got=server.ask("/v2/models/act/infer", text)[0]))
        thread.start()
        while thread.is_alive():
            start = time.monotonic()
            assert server.ask("/v2/health/live")[0] == 200
            longest = max(longest, time.monotonic() - start)
        alone = time.monotonic()
        json.loads(text)
        alone = time.monotonic() - alone
    assert answer["got"] == 400  # the model wants four values
    assert longest < max(0.1, 0.5 * alone)  # a ratio within one run: half of what reading it takes


def test_a_run_that_can_be_asked_to_end_frees_its_instance(source):
    with ServerProcess(source, "--request-timeout", 0.5) as server:
        request = endless(server)
        request.join()
        assert request.status == 504
        wait_until(lambda: not server.metric("apa_executing"))
        assert server.infer(ROW, "loop")[0] == 200
        assert server.stop() == 0


def test_a_model_that_hangs_is_not_ready_and_does_not_hold_up_the_end(source):
    with ServerProcess(source, "--request-timeout", 0.5, "--drain-timeout", 3, "--threads", 1) as server:
        request = Request(server, "open", np.zeros((LONG, 1, 1), np.float32))
        request.join()
        assert request.status == 504
        wait_until(lambda: server.ask("/v2/models/open/ready")[0] == 503)
        other = Request(server, "open", np.zeros((4, 1, 1), np.float32))
        other.join()
        assert other.status == 503
        assert server.ask("/v2/health/ready")[0] == 200  # two other models are there
        assert server.infer(ROW)[0] == 200
        start = time.monotonic()
        assert server.stop() == 0  # whatever was accepted was answered
        assert time.monotonic() - start < 3 + 5


def test_an_answer_that_does_not_come_ends_the_drain_with_1(source):
    with ServerProcess(source, "--drain-timeout", 1, "--threads", 1) as server:
        request = Request(server, "open", np.zeros((LONG, 1, 1), np.float32))
        wait_until(lambda: server.metric("apa_executing"))
        start = time.monotonic()
        assert server.stop() == 1
        assert time.monotonic() - start < 1 + 5
        request.join()
        assert server.events("drained")[-1]["lost"] == 1


@pytest.mark.parametrize("options", [(), ("--isolate",)], ids=["threads", "processes"])
def test_a_second_signal_ends_at_once(source, options):
    with ServerProcess(source, "--drain-timeout", 600, "--threads", 1, *options) as server:
        request = endless(server)
        wait_until(lambda: server.metric("apa_executing"))
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        assert server.stop() == 1
        request.join()


def test_nothing_is_loaded_during_the_drain(source):
    with ServerProcess(source, "--drain-timeout", 2, "--reload-interval", 0.05) as server:
        request = endless(server)
        wait_until(lambda: server.metric("apa_executing"))
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        small_model(source / ".new", kappa=2.0).replace(source / "act.onnx")
        server.exit_code()
        request.join()
        assert not [event for event in server.events("loaded") if event.get("reload")]


def children(server):
    """The processes that the server has started."""
    text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(server.process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in text.stdout.split()]


def state_of(pid):
    """ "Z": it has ended, and the server has not looked yet."""
    return subprocess.run(["ps", "-o", "state=", str(pid)], capture_output=True, text=True).stdout.strip()


def test_isolated_executions_that_hang_or_crash_are_replaced(source):
    (source / "open.onnx").unlink()
    with ServerProcess(source, "--isolate", "--request-timeout", 1, "--threads", 1) as server:
        first = children(server)
        assert len(first) == 2
        request = endless(server)
        request.join()
        assert request.status == 504
        wait_until(lambda: not server.metric("apa_executing"))
        assert server.infer(ROW, "loop")[2]["outputs"][0]["data"] == ROW[0]
        assert len(set(children(server)) - set(first)) == 1
        for pid in children(server):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(state_of(pid) == "Z" for pid in children(server)))
        for model in ("loop", "act"):  # 504 while its process starts on a busy machine
            wait_until(lambda model=model: server.infer(ROW, model)[0] == 200)
        assert len(children(server)) == 2
        assert server.stop() == 0
    wait_until(lambda: not children(server))


def test_an_isolated_crash_in_the_middle_is_an_error_of_that_request_alone(source):
    with ServerProcess(source, "--isolate", "--threads", 1) as server:
        before = set(children(server))
        request = endless(server)
        wait_until(lambda: server.metric("apa_executing"))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        request.join()
        assert request.status == 500
        assert server.infer(ROW, "loop")[0] == server.infer(ROW)[0] == 200


def test_a_client_that_leaves_at_once_does_not_cost_an_isolated_model_its_process(source):
    with ServerProcess(source, "--isolate", "--threads", 1) as server:
        before = children(server)
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [2e6] * 4}]})
        head = f"POST /v2/models/loop/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
        host, port = server.http.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall((head + body).encode())
            wait_until(lambda: server.metric("apa_executing"))
        wait_until(lambda: not server.metric("apa_executing"))
        assert children(server) == before


def test_sighup_looks_at_the_files(tmp_path):
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path, "--reload-interval", 0) as server:
        small_model(tmp_path / ".new", kappa=2.0).replace(tmp_path / "act.onnx")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("loaded", reload=True)
        assert server.infer(ROW)[0] == 200
        assert server.stop() == 0
