"""A candidate that crashes or hangs takes nothing with it."""

import json
import os
import time
from pathlib import Path

import pytest

from apa_deploy.cli.verify import main
from apa_deploy.tensors.signature import image_signature
from apa_deploy.verification.data import Data
from apa_deploy.verification.isolation import run_isolated
from apa_deploy.verification.source import Loading, ModelSource, SourceKind
from apa_deploy.verification.work import CandidateJob, Work
from tests.verification.conftest import FACTORY

_BAD = """
import os, subprocess, time

def crash():
    os.abort()

def hang():
    child = subprocess.Popen(["sleep", "600"])
    with open("started", "w") as file:
        file.write(str(child.pid))
    print("about to wait for ever", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def bad(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text(_BAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_crash_is_one_verdict_and_the_others_go_on(bad, exports, capsys):
    given = [str(exports / "model.pth"), "bad:crash", str(exports / "plain.onnx"), "--model", FACTORY]
    assert main([*given, "--input-shape", "3x16x16", "--json"]) == 1
    verification = json.loads(capsys.readouterr().out)
    crashed, right = verification["candidates"]
    assert "SIGABRT" in crashed["failure"]["saw"] and not crashed["passed"]
    assert right["passed"]
    assert verification["inputs"]["samples"] == 6


def test_what_hangs_is_ended_with_all_it_started(bad, exports):
    """The inputs are asked for first, so that this worker hangs before it loads anything heavy."""
    job = CandidateJob(
        source=ModelSource(text=str(exports / "plain.onnx"), kind=SourceKind.ONNX),
        label="plain.onnx",
        reference=ModelSource(text=FACTORY, kind=SourceKind.MODULE),
        loading=Loading(),
        data=Data(text="bad:hang", signature=image_signature(None)),
        output_names=["logits"],
        precision="fp32",
    )
    start = time.monotonic()
    answer, recorded = run_isolated(Work(candidate=job, answer="", results=""), "plain.onnx", timeout=20)
    assert time.monotonic() - start < 300  # it would have waited 600 s
    assert "no answer within 20 s" in answer.failure.saw and not recorded
    assert "--timeout" in answer.failure.do
    if (bad / "started").exists():  # always, unless this machine needs 20 s to start Python
        assert "about to wait for ever" in answer.failure.do
        assert _gone(int((bad / "started").read_text()))


def _gone(pid):
    """Whether the process has ended: a zombie has."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
