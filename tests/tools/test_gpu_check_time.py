"""The time that tools/gpu_check may take: each part keeps its limit, all together the ten minutes of `offline`."""

import importlib.machinery
import importlib.util
import random
import time

import pytest

from tools.gpu_check import __main__ as main
from tools.gpu_check import building, chain, clocks, exhaustive, kernels, library, parts
from tools.gpu_check.outcome import Outcome, State, outcome_of
from tools.gpu_check.time_limits import _TO_KEEP_S, Limit, allot

TEN_MINUTES, COPIES = 600, 40  # seconds; what unpacking, reading hashes and copying back are allowed
OFFLINE = building.ROOT / "tools/gpu_check/offline"


@pytest.mark.parametrize(
    ("left", "limit", "later", "wanted"),
    [
        (100, Limit(30, 10), [], 30),
        (20, Limit(30, 10), [], 20),
        (100, Limit(90, 10), [Limit(50, 30), Limit(50, 20)], 50),  # later ones keep their least
        (40, Limit(90, 10), [Limit(50, 30)], 10),  # and so does this one
        (8, Limit(90, 10), [Limit(50, 30)], 8),  # too little for all: the first come first
        (-5, Limit(90, 10), [], 0),
    ],
)
def test_time_is_allotted(left, limit, later, wanted):
    assert allot(left, limit, later) == wanted


def _seconds_of_offline() -> float:
    loader = importlib.machinery.SourceFileLoader("offline", str(OFFLINE))
    spec = importlib.util.spec_from_loader("offline", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module.SECONDS


def _simulate(seconds, slowness):
    """What each part is given and when all have ended, where a part takes that share of what it is given. One that
    does not end is killed after a while of grace."""
    now, given, names = 0.0, {}, list(parts.PARTS)
    for number, name in enumerate(names):
        later = [parts.PARTS[one].limit for one in names[number + 1 :]]
        given[name] = allot(seconds - now - main._GRACE_S, parts.PARTS[name].limit, later)
        now += given[name] * slowness(name)
    return given, now


def test_the_ten_minutes_are_kept_and_no_part_goes_without():
    """However slow which parts are. Engines and their latency have no least: they get what is left."""
    seconds = _seconds_of_offline()
    assert seconds + COPIES <= TEN_MINUTES
    numbers = random.Random(1)
    cases = [lambda _: 1.0, lambda _: 0.0, *(lambda _: numbers.choice((0, 0.5, 1)) for _ in range(500))]
    for slowness in cases:
        given, end = _simulate(seconds, slowness)
        assert end + main._GRACE_S <= seconds
        assert all(given[name] >= part.limit.least for name, part in parts.PARTS.items())
    assert all(part.limit.least >= 2 for name, part in parts.PARTS.items() if name not in ("engines", "latency"))


def test_what_a_part_holds_keeps_the_part_s_limit():
    known = {name: part.limit for name, part in parts.PARTS.items()}
    limits = {name: (limit.most - _TO_KEEP_S, limit.least - _TO_KEEP_S) for name, limit in known.items()}
    for name in ("library", "operators"):
        assert sum(run.most for run in library.RUNS.values()) <= limits[name][0]
        assert sum(run.least for run in library.RUNS.values()) <= limits[name][1]
    suites = sum(map(len, building.SUITES.values()))
    assert suites * kernels._SUITE.least <= limits["kernels"][1]
    alone = {"exhaustive": exhaustive._LIMIT, "bandwidth": kernels._BANDWIDTH, "chain": chain._LIMIT}
    assert all(limit.most <= limits[name][0] for name, limit in alone.items())
    assert limits["clocks"][0] >= 2 * clocks._ANSWERS_S  # it asks at most twice


class _Report:
    def __init__(self):
        self.outcomes, self.log, self.written = [], "", []

    def write(self, folder, left):
        self.written.append(list(left))


def test_slow_parts_end_in_time_and_the_last_one_runs_too(tmp_path, monkeypatch):
    """For real, with parts that take all that they are given."""
    names = ("clocks", "library", "kernels")
    slow = {name: parts.Part(lambda check: None, Limit(60, 1.2)) for name in names}
    monkeypatch.setattr(main, "PARTS", slow)
    monkeypatch.setattr(main, "_GRACE_S", 0.2)
    given = {}

    def run(check, part, seconds):
        given[part] = seconds
        (tmp_path / f"{part}.log").write_text(part)
        time.sleep(seconds)
        return Outcome(part, State.PASSED)

    monkeypatch.setattr(main, "_run_part", run)
    start, report = time.monotonic(), _Report()
    main._run_parts(type("Check", (), {"folder": tmp_path}), names, 6.0, report)
    assert time.monotonic() - start < 6.0
    assert given["clocks"] == pytest.approx(6.0 - 0.2 - 2 * 1.2, abs=0.2)  # all but what the later ones are to have
    assert min(given["library"], given["kernels"]) >= 1.1
    assert [outcome.state for outcome in report.outcomes] == [State.PASSED] * 3


def test_an_nvidia_smi_that_hangs_holds_nothing_up(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(clocks, "_ANSWERS_S", 0.3)
    outcome = outcome_of("clocks", clocks.readable)
    assert outcome.state is State.SKIPPED and "does not answer within 0.3 s" in outcome.reason
    with clocks.Watch() as watch:
        pass
    assert "does not answer" in watch.facts()["not read"]
