"""What lies in the current folder is executed only where `--model` names it, and never in a library's place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

CHECKPOINT = Path(__file__).resolve().parents[2] / "examples/digits/digits.pth"
PLANTED = "import pathlib, sys\nwith open({log!r}, 'a') as log: log.write({name!r} + '\\n')\nraise ImportError\n"
OWN = ["own.pth", "--model", "own:network", "--input-shape", "1x8x8"]
VERBS = [
    ["apa-inspect", CHECKPOINT, "--report", "report.html"],
    ["apa-verify", "model.onnx", "model.onnx"],
    ["apa-bench", "model.onnx", "--rounds", "1", "--duration", "0.1"],
    ["apa-doctor", "model.onnx"],
]


def _run(folder: Path, verb: object, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(str(verb))), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a module of the name of every installed package and of the whole standard library, in which
    `apa-export` wrote the model that the other verbs read."""
    if not Path(sys.executable).with_name("apa-export").exists():
        pytest.skip("the console scripts are not installed beside this Python")
    folder = tmp_path_factory.mktemp("planted")
    # asked of a Python of its own: other tests add folders to this one's path, with packages that are not installed
    code = "import importlib.metadata as m; print(*m.packages_distributions())"
    installed = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    names = {name for name in (*installed.stdout.split(), *sys.stdlib_module_names) if name.isidentifier()}
    assert {"torch", "numpy"} <= names
    for name in names:
        (folder / f"{name}.py").write_text(PLANTED.format(log=str(folder / "executed"), name=name))
    (folder / "own.py").write_text("import torch\n\ndef network():\n    return torch.nn.Conv2d(1, 2, 3)\n")
    torch.save(torch.nn.Conv2d(1, 2, 3).state_dict(), folder / "own.pth")
    done = _run(folder, "apa-export", *OWN, "-o", "model.onnx", "--debug")
    assert not (folder / "executed").exists(), (folder / "executed").read_text() + done.stderr
    assert done.returncode == 0, done.stderr
    assert f"was taken from {folder / 'own.py'}" in " ".join(done.stderr.split())  # found behind the libraries
    return folder


@pytest.mark.parametrize("command", VERBS, ids=[command[0] for command in VERBS])
def test_no_verb_runs_what_lies_in_the_folder(folder, command):
    done = _run(folder, *command)
    assert not (folder / "executed").exists(), (folder / "executed").read_text() + done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["google", "nt"])  # a package of several without an __init__; another system's
def test_folder_comes_behind_what_has_no_file_of_its_own(tmp_path, name):
    log = tmp_path / "executed"
    (tmp_path / f"{name}.py").write_text(PLANTED.format(log=str(log), name=name))
    (tmp_path / "own.py").write_text("def function():\n    import own_too\n    return own_too.value\n")
    (tmp_path / "own_too.py").write_text("value = 3\n")
    code = "from apa_deploy.loading.factory import call_function\nprint(call_function('own:function'))\n"
    code += f"try:\n    import {name}\nexcept ModuleNotFoundError:\n    pass\n"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, log.exists()) == (0, "3\n", False), done.stderr


def test_the_folder_one_is_in_comes_before_earlier_ones(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(f"def function():\n    return {name!r}\n")
    code = "import os, sys\nfrom apa_deploy.loading.factory import call_function\n"
    for name in ("first", "second", "first"):
        code += (
            f"os.chdir({str(tmp_path / name)!r})\nprint(call_function('own:function'))\ndel sys.modules['own']\n"
        )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["first", "second", "first"]
