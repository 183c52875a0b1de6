"""Workers: one works only when asked; crashes, hangs and refusals are one clear line, and the others go on."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from apa_deploy.bench.process import Worker
from apa_deploy.child_process import ChildError
from apa_deploy.measure import side_by_side
from apa_deploy.measure.side_by_side import TimingPlan, time_side_by_side
from apa_deploy.measure.subject import Subject
from apa_deploy.tensors.signature import TensorSpec
from tests.bench.conftest import SIDE

QUICK = TimingPlan(launches=2, rounds=2, turn_s=0.01, warmup=1, limit_s=60)


def subject(path, name="net", runtime="onnxruntime"):
    return Subject(name, str(path), runtime, (TensorSpec("input", "float32", ("batch", 3, SIDE, SIDE)),))


def pid(worker):
    return worker._process.pid


def cpu_seconds(process):
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_worker_measures_when_it_is_asked_and_rests_otherwise(plain):
    with Worker(subject(plain), 60) as worker:
        loaded = worker.load(2, 1, 3)
        assert loaded["runtime"].startswith("onnxruntime 1.")
        assert 0 < loaded["load_s"] < 60
        before = cpu_seconds(pid(worker))
        time.sleep(0.5)
        assert cpu_seconds(pid(worker)) - before <= 0.05  # a few ticks of 10 ms
        answer = worker.turn(0.05, 3)
        assert len(answer["ms"]) >= 3
        assert all(0 < sample < 60e3 for sample in answer["ms"])
        assert 20e6 < answer["peak_memory_bytes"] < 1e9
        assert len(worker.turn(1e-9, 5)["ms"]) == 5
    with pytest.raises(ProcessLookupError):
        os.kill(pid(worker), 0)  # it is gone


@pytest.mark.parametrize(
    ("sent", "limit_s", "said"),
    [
        (signal.SIGSEGV, 60, "ended by SIGSEGV while it was measured"),
        (signal.SIGKILL, 60, "SIGKILL (as when memory runs out) while it was measured"),
        (signal.SIGSTOP, 1, "no answer within 1 s while it was measured; it was ended"),
    ],
)
def test_a_crash_and_a_hang_are_one_line(sent, limit_s, said, plain):
    with Worker(subject(plain), 60) as worker:
        worker.load(1, 1, 1)
        worker._limit = limit_s
        os.kill(pid(worker), sent)
        with pytest.raises(ChildError) as raised:
            worker.turn(0.01, 1)
    assert said in raised.value.reason
    assert "\n" not in raised.value.reason


def test_a_refusal_is_the_runtimes_own_word(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with (
        Worker(subject(tmp_path / "bad.onnx"), 60) as worker,
        pytest.raises(ChildError, match="ONNX Runtime says"),
    ):
        worker.load(1, 1, 1)


def test_the_others_go_on(plain, fused, monkeypatch):
    class Doomed(Worker):
        def turn(self, seconds, least):
            if self._subject.name == "doomed":
                os.kill(pid(self), signal.SIGABRT)
            return super().turn(seconds, least)

    monkeypatch.setattr(side_by_side, "Worker", Doomed)
    subjects = [subject(plain, "plain"), subject(plain, "doomed"), subject(fused, "fused")]
    series, failures = time_side_by_side(subjects, 1, 1, QUICK)
    assert [one.name for one in series] == ["plain", "fused"]
    assert all(len(one.rounds) == 4 and one.launches == 2 and len(one.loads_s) == 2 for one in series)
    assert [(one.name, one.batch, one.threads) for one in failures] == [("doomed", 1, 1)]
    assert "SIGABRT" in failures[0].reason


def test_turns_alternate(plain, monkeypatch):
    """Every artifact has one turn a round, never two at once, in an order that changes."""
    log = []

    class Logged(Worker):
        def turn(self, seconds, least):
            start = time.monotonic()
            answer = super().turn(seconds, least)
            log.append((self._subject.name, start, time.monotonic(), pid(self)))
            return answer

    monkeypatch.setattr(side_by_side, "Worker", Logged)
    names = ["a", "b", "c"]
    plan = TimingPlan(launches=2, rounds=5, turn_s=0.001, warmup=0, limit_s=60)
    time_side_by_side([subject(plain, name) for name in names], 1, 1, plan)
    rounds = [[name for name, *_ in log[i : i + 3]] for i in range(0, len(log), 3)]
    assert len(rounds) == 10
    assert all(sorted(one) == names for one in rounds)
    assert len(set(map(tuple, rounds))) > 1
    assert all(first[2] <= second[1] for first, second in pairwise(log))
    assert len({process for *_, process in log}) == 6  # fresh ones each launch
