"""`pip wheel .` without a compiler, or without headers: made all the same. With both: tests/wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import ort_building as building
import pytest

LIBRARY = "apa_deploy/lib/libapa_ort.so"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a build reads: nothing that was built here lies in it."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("apa_deploy", "exporters", "plugins"):
        ignored = shutil.ignore_patterns("lib", "__pycache__", "tests")
        shutil.copytree(building.ROOT / folder, copy / folder, ignore=ignored)
    for file in ("CMakeLists.txt", "pyproject.toml", "LICENSE", "THIRD_PARTY.md"):
        shutil.copy(building.ROOT / file, copy)
    (copy / "README.md").write_text("apa-deploy\n")
    return copy


def _wheel(checkout, into, **environment):
    pip = [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "-w", str(into), str(checkout)]
    option = ["-C", "cmake.define.APA_PARTS=onnxruntime"]
    return subprocess.run(pip + option, capture_output=True, text=True, env={**os.environ, **environment})


def _members(folder):
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return path.name, set(wheel.namelist())


def _path_without_compilers(folder):
    folder.mkdir()
    for tool in ("sh", "uname", "tar", "git"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return str(folder)


MISSING = [
    ("compiler", "No C++ compiler"),
    ("headers", "libapa_ort.so is not built: the ONNX Runtime headers are missing"),
]


@pytest.mark.parametrize(("what", "said"), MISSING, ids=[m[0] for m in MISSING])
def test_without_it_the_wheel_is_made_and_says_so_once(checkout, tmp_path, what, said):
    if what == "compiler":
        environment = {"PATH": _path_without_compilers(tmp_path / "bin"), "CC": "", "CXX": ""}
    else:
        # A root without headers stands for a machine where none are found and none may be fetched.
        environment = {"ONNXRUNTIME_ROOT": str(tmp_path), "APA_NO_FETCH": "1"}
    done = _wheel(checkout, tmp_path / "wheel", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = " ".join((done.stdout + done.stderr).split())
    assert printed.count(said) == 1, done.stdout
    _, members = _members(tmp_path / "wheel")
    assert LIBRARY not in members and "apa_deploy/native.py" in members
