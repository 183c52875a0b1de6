"""Strangers' files: nothing executes, exit 2, one message of three parts, nothing left, memory bounded."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apa_deploy.errors import InputError
from apa_deploy.loading.checkpoint import read_checkpoint
from tests.attacks.files import FILES
from tests.networks import tiny_net

# Reading a refused file takes no more than the file (at most 20 MB here) and the libraries first used by it.
BOUND_KIB = 400_000


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    folder, work = tmp_path_factory.mktemp("attacks"), tmp_path_factory.mktemp("work")
    numbers = {}
    for i, (name, (suffix, write, _)) in enumerate(FILES.items()):
        write(folder / f"{i}{suffix}")
        numbers[name] = str(i)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.attacks.judge", str(folder)]
    environment = {
        "PYTHONPATH": str(root),
        "PATH": "/usr/bin:/bin",
        "HOME": str(work),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    return {name: report["results"][number] for name, number in numbers.items()}, report["grown_kib"], work


@pytest.mark.parametrize("name", FILES)
def test_refused(name, verdicts):
    verdict = verdicts[0][name]
    assert verdict["code"] == 2, verdict["said"]
    assert FILES[name][2] in verdict["said"]
    errors = [line for line in verdict["said"].splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "; wanted " in errors[0]
    assert "unexpected" not in errors[0].split(";")[0]
    assert len(errors[0]) < 2000
    assert "Traceback" not in verdict["said"]
    assert verdict["left"] == []


def test_nothing_was_executed(verdicts):
    assert not (verdicts[2] / "executed").exists()


def test_memory_is_bounded(verdicts):
    assert verdicts[1] < BOUND_KIB


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.pth"
    torch.save({"model": tiny_net().state_dict(), "epoch": 3}, path)
    return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), edits=st.integers(1, 30), cut=st.booleans())
def test_mutated_checkpoints_load_or_are_refused(seed, edits, cut, good_bytes, tmp_path_factory):
    """Flipped bytes and lost tails: weights, or an InputError; never another exception, never a crash."""
    rng, data = random.Random(seed), bytearray(good_bytes)
    for _ in range(edits):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path = tmp_path_factory.mktemp("mutated") / "model.pth"
    path.write_bytes(data[: rng.randrange(len(data))] if cut else data)
    try:
        assert read_checkpoint(path).state
    except InputError as error:
        assert error.exit_code == 2
