"""The parts of tools/gpu_check that drive a built library, with scripts in the place of its programs."""

import stat
import time
from pathlib import Path

import pytest

from tools.gpu_check import library
from tools.gpu_check.outcome import State, outcome_of
from tools.gpu_check.time_limits import NEVER, Deadline, Limit

ROOT = Path(__file__).parents[2]


def _script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


ROW = '{"suite": "values", "checks": 9, "failures": %d, "seconds": 0.1, "facts": {}}'


def _drive(tmp_path, monkeypatch, program, sanitizer=None, capability=90, deadline=NEVER):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if sanitizer:
        _script(tmp_path, "compute-sanitizer", sanitizer)
    kept = []
    program, named = _script(tmp_path, "p", program), {"APA_TRT_LIBRARY": tmp_path}
    outcome = library.drive_library("library", program, named, tmp_path, capability, kept.append, deadline)
    return outcome, kept


def test_the_library_is_driven_in_every_way_that_is_here(tmp_path, monkeypatch):
    program = f"echo \"$@ $CUDA_FORCE_PTX_JIT $APA_DEPENDENT_LAUNCH\" >> {tmp_path}/asked; echo '{ROW % 0}'"
    outcome, kept = _drive(tmp_path, monkeypatch, program, sanitizer='shift 4; exec "$@"')
    assert (outcome.state, len(kept)) == (State.PASSED, 5)
    assert [row["run"] for row in outcome.rows] == list(library.RUNS)
    assert (tmp_path / "asked").read_text() == "  \n--small 1 \n--small  1\n--small  \n--small  \n"


@pytest.mark.parametrize(
    ("program", "sanitizer", "capability", "state", "said"),
    [
        (f"echo FAIL here; echo '{ROW % 1}'; exit 1", None, 90, "failed", "as built: values"),
        (f"echo '{ROW % 0}'; kill -SEGV $$", None, 90, "failed", "as built: its process was ended by SIGSEGV"),
        (f"echo '{ROW % 0}'", f"echo '{ROW % 0}'; exit 9", 90, "failed", "memcheck: its process ended with code 9"),
        (f"echo '{ROW % 0}'", "echo Device not supported; exit 1", 75, "passed", ""),
        ("echo no device >&2; exit 3", None, 90, "skipped", "no device"),
    ],
)
def test_what_the_library_s_runs_say(tmp_path, monkeypatch, program, sanitizer, capability, state, said):
    outcome = outcome_of("library", lambda: _drive(tmp_path, monkeypatch, program, sanitizer, capability)[0])
    assert (outcome.state, said in outcome.reason) == (state, True)
    if capability == 75:
        skipped = [row["suite"] for row in outcome.rows if row["checks"] == 0]
        old = ["its PTX is of 9.0, the GPU of 7.5", "the GPU is of 7.5, dependent launches are of 9.0"]
        assert skipped == [f"skipped: {why}" for why in (*old, *["Device not supported"] * 2)]


SLOW = f"echo '{ROW % 0}'; sleep 20"


def test_a_slow_device_keeps_what_it_had_of_every_run(tmp_path, monkeypatch):
    """Every run has its time, however slow those before it; what a run printed before it was cut off is there."""
    monkeypatch.setattr(library, "RUNS", {name: Limit(60, 1.2) for name in library.RUNS})
    start = time.monotonic()
    outcome, kept = _drive(tmp_path, monkeypatch, SLOW, 'shift 4; exec "$@"', deadline=Deadline(start + 9))
    assert time.monotonic() - start < 9.5
    assert outcome.state is State.FAILED and len(kept) == 5  # the library itself did not end
    assert "as built: no answer within" in outcome.reason and "check" not in outcome.reason
    values = [row["run"] for row in outcome.rows if row["suite"] == "values"]
    assert values == list(library.RUNS)
    slow = [row["run"] for row in outcome.rows if row["suite"].startswith("cut off: no answer within")]
    assert slow == ["memcheck", "racecheck"]  # no fault of the library


def test_a_run_that_no_time_is_left_for_is_told(tmp_path, monkeypatch):
    outcome, kept = _drive(tmp_path, monkeypatch, f"echo '{ROW % 0}'", deadline=Deadline(time.monotonic()))
    assert {row["suite"] for row in outcome.rows} >= {"skipped: no time is left"} and kept == []
    assert outcome.state is State.SKIPPED and outcome.reason == "no time was left" and outcome.do
