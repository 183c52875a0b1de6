"""SIGTERM: what was accepted is answered, the exit code is 0, and no client hears a wrong answer."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tritonclient.grpc
from load import Load
from serving_models import TOLERANCE, slow_model, small_model, truth
from serving_process import ServerProcess

from apa_deploy.serving.lifecycle import RunningServer
from apa_deploy.serving.log import JsonLog
from apa_deploy.serving.options import ServeOptions


@pytest.fixture(params=["fast", "slow"])
def source(request, tmp_path):
    """Under the fast model the protocols are busy, under the slow one the queue is."""
    (small_model if request.param == "fast" else slow_model)(tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_sigterm_under_load_loses_no_accepted_request(source):
    with ServerProcess(source, "--max-batch", 2) as server:
        with Load(server, "m") as load:
            load.wait_for_answers(40)
            code = server.stop()
            load.wait_until_refused()
        outcome = load.outcome
        logged = {event["request_id"]: event["status"] for event in server.events("request")}
        drained = server.events("drained")[-1]
    assert code == 0
    assert drained["lost"] == 0
    assert len(outcome.answers) >= 40
    assert not outcome.refused
    # Whatever the server took in, it answered, and its client has the answer. The others were told to go elsewhere.
    good = {id_ for id_, status in logged.items() if status in (200, "OK") and id_.startswith("load-")}
    assert good == set(outcome.answers)
    assert {status for id_, status in logged.items() if id_ in outcome.lost} <= {"UNAVAILABLE"}
    for x, y in outcome.answers.values():
        np.testing.assert_allclose(y, truth(x)["y"], rtol=0, atol=8 * TOLERANCE)


def test_a_drain_delay_keeps_serving_while_not_ready(tmp_path):
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path, "--drain-delay", 1.5) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        ready = server.ask("/v2/health/ready")[0]
        live = server.ask("/v2/health/live")[0]
        status, headers, _ = server.infer([[1.0, 2.0, 3.0, 4.0]])
        code = server.exit_code()
    assert (ready, live, status, headers["connection"], code) == (503, 200, 200, "close", 0)


def test_a_second_signal_ends_the_drain(tmp_path):
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path, "--drain-delay", 600) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        assert server.stop() in (0, 1)


def test_a_request_that_outlasts_the_drain_is_reported(tmp_path):
    slow_model(tmp_path / "m.onnx", steps=3000)  # about a second a row
    with ServerProcess(tmp_path / "m.onnx", "--drain-timeout", 0.1, "--max-batch", 1) as server:
        with Load(server, "m", http_clients=0, grpc_clients=1) as load:
            while not server.metric("apa_executing"):
                time.sleep(0.02)
            code = server.stop()
            load.wait_until_refused()
        assert code == 1
        assert server.events("drained")[-1]["lost"] >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_with_0(tmp_path, number):
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path) as server:
        assert server.stop(number) == 0


def test_an_idle_stream_does_not_hold_up_the_drain(tmp_path):
    small_model(tmp_path / "act.onnx")
    with ServerProcess(tmp_path, "--drain-timeout", 600) as server:
        client = tritonclient.grpc.InferenceServerClient(server.grpc)
        client.start_stream(lambda result, error: None)
        tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        client.async_stream_infer("act", [tensor], request_id="streamed")
        server.wait_for("request", request_id="streamed")
        assert server.stop() == 0  # the helper waits a tenth of the drain's limit
        client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_imports_ends_at_once_without_a_word(tmp_path, number):
    """The library that is imported here ends the process, as somebody else does by chance."""
    (tmp_path / "numpy.py").write_text(f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "apa_deploy.cli.serve", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (128 + number, "")


def test_the_end_may_come_before_the_start(tmp_path):
    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        running = RunningServer(ServeOptions(tmp_path), log)
        answered = await running.drain()
        await running.close()
        gc.collect()  # an error that nobody asks for is told of then
        return answered

    faults, log = [], JsonLog()
    assert asyncio.run(run())
    log.close()
    assert not faults
