"""The built library in the real plugin registries of TensorRT 11, TensorRT 10 and TensorRT for RTX.

None needs a GPU. Each runs in a child process.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import trt_building as building

from apa_deploy.doctor.fat_binary import gpu_code

# The oldest lean runtime of TensorRT 10 whose libraries lie on the package index themselves.
OLDER = ("10.15.1.29",)
ALL = [[name, "1", "apa"] for name in ("AGLU", "AGLUCodes", "APA", "APACodes")]


def _installed(module):
    if subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode:
        pytest.skip(f"{module} is not installed: pip install {module.replace('_', '-')}-cu13")
    return module, None


def _lean(version, folder):
    """An older lean runtime, in a folder of its own that comes before the environment's."""
    names = [f"tensorrt-lean-cu13-{part}=={version}" for part in ("libs", "bindings")]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"tensorrt-lean-cu13 {version} cannot be had: {done.stderr.strip().splitlines()[-1]}")
    return "tensorrt_lean_bindings", folder


@pytest.fixture(scope="module", params=["lean", "rtx", *OLDER])
def runtime(request, tmp_path_factory):
    """The name of a runtime, its module, and the folder it lies in, None for the environment's."""
    if request.param in OLDER:
        return request.param, *_lean(request.param, tmp_path_factory.mktemp("site"))
    return request.param, *_installed(f"tensorrt_{request.param}")


def _child(runtime, *libraries):
    _, module, path = runtime
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    command = [sys.executable, str(building.TESTS / "trt_registry_child.py"), module, *map(str, libraries)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def seen(runtime, tmp_path_factory):
    """What a registry did with the library."""
    library = building.library()
    copy = shutil.copy(library, tmp_path_factory.mktemp("registry") / "libcopy_of_apa_trt.so")
    found, said = _child(runtime, library, copy)
    assert runtime[0] not in OLDER or found["version"] == runtime[0]
    return {**found, "said": said}


FACTS = [
    ("before", []),
    ("loaded", True),
    ("creators", ALL),
    ("loaded twice", False),
    ("creators with copy", ALL),
    ("missing loaded", False),
    ("found", ["AGLU/1/apa", "APA/1/apa"]),
    ("after", []),
    ("mapped after", False),
    ("loaded again", True),
    ("creators again", ALL),
]


@pytest.mark.parametrize(("fact", "wanted"), FACTS)
def test_registry(seen, fact, wanted):
    assert seen[fact] == wanted


def test_creators_take_good_fields_and_refuse_bad_ones(seen):
    wrong = {case: made for case, made in seen["created"].items() if made != (" good " in case)}
    assert not wrong
    assert len(seen["created"]) == 72


def test_refusals_are_said(seen):
    refused = sum(not made for made in seen["created"].values())
    lines = [line for line in seen["said"].splitlines() if line.startswith("[apa]")]
    assert len(lines) == refused


def test_opening_the_loader_is_enough(runtime):
    creators, said = _child(runtime, building.autoload_library())
    if runtime[0] == "rtx":  # which has no use for plugins
        assert creators == []
        assert "no TensorRT in this process" in said
    else:
        assert creators == ALL
        assert "apa-deploy" not in said


def test_loader_without_the_plugin(runtime, tmp_path):
    if runtime[0] == "rtx":
        pytest.skip("TensorRT for RTX has no use for plugins")
    alone = shutil.copy(building.autoload_library(), tmp_path)
    creators, said = _child(runtime, alone)
    assert creators == []
    assert f"TensorRT refused {tmp_path}/libapa_trt.so" in said


@pytest.mark.long
def test_the_library_for_cuda_12(runtime, tmp_path):
    """Built by clang from the headers of 12.9; loaded, made to create plugins, and let go, as the other one."""
    if not shutil.which("clang++-19"):
        pytest.skip("no clang++-19 in PATH: Debian has it (apt install clang-19)")
    library = tmp_path / "libapa_trt_cu12.so"
    command = ["sh", building.TENSORRT / "build_cuda12.sh", library]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ARCHS": "80 90"})
    assert done.returncode == 0, done.stderr
    code = gpu_code(library)
    assert (code.machine, code.ptx) == ({80, 90}, {90})
    found, _ = _child(runtime, library, shutil.copy(library, tmp_path / "copy.so"))
    assert found["loaded"] and found["creators"] == ALL and found["after"] == []
    assert any(found["created"].values())
