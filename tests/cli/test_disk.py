"""`apa-export` as a program: Ctrl-C, a file-size limit, and names with spaces and letters of any language."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def started(folder, *arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "apa_exporters.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_interrupted(cifar_checkpoint):
    folder = cifar_checkpoint.parent
    # a background job's children inherit SIGINT as ignored, and Python then raises nothing
    program = started(folder, cifar_checkpoint, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    for line in program.stderr:
        if "Tracing" in line:
            break
    for _ in range(4):  # Python swallows what is raised in a destructor, and the user presses again
        program.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, said = program.communicate(timeout=30)
            break
    assert program.returncode == 130
    assert "nothing was left half-written" in said
    assert "Traceback" not in said
    assert names(folder) == ["model.pth"]


def test_file_size_limit(cifar_checkpoint):
    folder, limit = cifar_checkpoint.parent, 100_000
    program = started(
        folder, cifar_checkpoint, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    _, said = program.communicate(timeout=300)
    assert program.returncode == 2
    assert "ulimit -f" in said
    assert names(folder) == ["model.pth"]


@pytest.mark.parametrize("name", ["two words", "Zürich", "模型"])
def test_any_path(name, cifar_checkpoint, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    checkpoint = cifar_checkpoint.rename(folder / f"{name}.pth")
    program = started(folder, checkpoint, "--no-verify")
    _, said = program.communicate(timeout=300)
    assert program.returncode == 0, said
    assert names(folder) == sorted([f"{name}.pth", f"{name}.onnx", f"{name}.onnx.passport.json"])
