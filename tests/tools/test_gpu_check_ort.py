"""The part onnxruntime of tools/gpu_check, with ONNX Runtime's CPU provider and the library for it."""

from pathlib import Path

import pytest

from apa_deploy.maths import aglu_float64
from apa_deploy.native import ort_library
from apa_deploy.runtimes.cuda_driver import device_count
from tools.gpu_check import beside, ort
from tools.gpu_check.outcome import Outcome, State, outcome_of


def _measure(library=ort_library) -> Outcome:
    kept: list[int] = []
    keep = lambda known: kept.append(len(known.rows))  # noqa: E731
    found = ort.check_operators(library, "CPUExecutionProvider", sizes=(1 / 16,), turns=2, keep=keep)
    assert kept == [1, 2]  # where it is cut off, these are there
    return found


def test_every_way_is_timed_and_the_operator_judged():
    found = _measure()
    assert (found.state, found.reason) == (State.PASSED, "")
    assert [row["element"] for row in found.rows] == list(beside.ELEMENTS)
    for row in found.rows:
        assert all(row[f"{way}, ms"] > 0 for way in (ort.FUSED, ort.BODY, "copy", "AGLU eager", "SiLU eager"))
        assert row["fused/body"] > 0 and 0 < row["worst error"] <= ort.MOST_ERROR[row["element"]]


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_an_error_beyond_the_bound_fails(monkeypatch, factor):
    monkeypatch.setattr(ort, "aglu_float64", lambda *args: aglu_float64(*args) * factor)
    wrong = _measure()
    assert wrong.state is State.FAILED and "float16: an error of" in wrong.reason


def test_a_way_that_does_not_start_is_told_and_the_others_are_timed():
    found = _measure(lambda: Path("/nonexistent.so"))
    assert found.state is State.FAILED and found.reason.count(f"{ort.FUSED}: ") == 2
    assert all(row[f"{ort.BODY}, ms"] > 0 and row["worst error"] is None for row in found.rows)


@pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu():
    missing = outcome_of("onnxruntime", lambda: ort.check_operators(ort_library))
    assert missing.state is State.SKIPPED and "CUDAExecutionProvider" in missing.reason and missing.do
