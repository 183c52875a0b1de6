"""What GPUs the plugin holds code for, beside what NVIDIA's cuobjdump lists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from apa_deploy.doctor.fat_binary import GpuCode, gpu_code
from apa_deploy.native import LibraryError, trt_plugin_library

FETCH = Path(__file__).parents[2] / "plugins/fetch/nvcc.py"


@pytest.fixture(scope="module")
def library():
    try:
        return trt_plugin_library()
    except LibraryError as error:
        pytest.skip(str(error))


def _listed(library, option, suffix):
    found = subprocess.run([sys.executable, FETCH, "cuobjdump"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(found.stderr.strip().splitlines()[-1])
    tool = found.stdout.strip().splitlines()[-1]
    text = subprocess.run([tool, option, library], capture_output=True, text=True, check=True).stdout
    return {int(number) for number in re.findall(rf"sm_(\d+)\.{suffix}", text)}


def test_agrees_with_cuobjdump(library):
    code = gpu_code(library)
    assert code.machine == _listed(library, "-lelf", "cubin")
    assert code.ptx == _listed(library, "-lptx", "ptx")
    assert code.machine
    assert code.cuda is None or code.cuda[0] >= 12


def test_a_file_without_any(tmp_path):
    file = tmp_path / "lib.so"
    file.write_bytes(b"\x7fELF" + bytes(100) + b"\x50\xed\x55\xba")  # a magic number, and the file ends
    assert gpu_code(file) == GpuCode(frozenset(), frozenset(), None)


@pytest.mark.parametrize(
    ("machine", "ptx", "capability", "runs"),
    [
        ({80}, set(), "8.0", True),
        ({80}, set(), "8.9", True),  # machine code of the same major version, not newer
        ({89}, set(), "8.6", False),
        ({90}, set(), "10.0", False),
        ({90}, {90}, "12.0", True),  # the driver compiles PTX
        ({75}, {90}, "8.6", False),
        ({120}, set(), "12.1", True),
    ],
)
def test_runs_on(machine, ptx, capability, runs):
    assert GpuCode(frozenset(machine), frozenset(ptx), None).runs_on(capability) is runs
