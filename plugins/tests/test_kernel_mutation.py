"""Every planted fault (trt_faults.py) turns a test program red: one build holds them all, each behind a switch."""

import shutil

import pytest
import trt_building as building
from planting import plant_faults, run_planted
from trt_faults import FAULTS

pytestmark = pytest.mark.slow

# Fast to compile: alignment of packs is the one thing that only a sanitizer sees here.
FLAGS = ("-g0", "-fsanitize=alignment", "-fno-sanitize-recover=all", "-w")
KERNELS = ("trt_kernels_cpu.cc", "activation.cc", "layout.cc", "formats.cc")
PLUGIN = (
    *KERNELS,
    "cuda_cpu_runtime.cc",
    "device_memory.cc",
    "entry.cc",
    "fields.cc",
    "log.cc",
    "plugin.cc",
    "plugin_runtime.cc",
)
# The test programs, the quickest to run first.
PROGRAMS = {
    "trt_creator_test.cc": PLUGIN,
    "trt_build_test.cc": PLUGIN,
    "trt_runtime_test.cc": PLUGIN,
    "trt_turns_test.cc": PLUGIN,
    "trt_huge_test.cc": KERNELS,
    "trt_codes_test.cc": KERNELS,
    "trt_layout_test.cc": KERNELS,
    "trt_error_test.cc": KERNELS,
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The test programs, made of the sources with every fault in them, each behind its switch."""
    folder = tmp_path_factory.mktemp("planted")
    for part in ("tensorrt", "include"):
        shutil.copytree(building.ROOT / "plugins" / part, folder / part)
    switch = ("-include", str(plant_faults(folder, FAULTS)))
    made = building.Programs(folder, *FLAGS, *switch, product=folder / "tensorrt", maths=folder / "include")
    return [made.program(test, *sources) for test, sources in PROGRAMS.items()]


def test_none_is_seen_where_none_is_on(programs):
    for program in programs:
        assert run_planted(program, 0).returncode == 0, program.name


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=[fault.name for fault in FAULTS])
def test_every_fault_is_seen(programs, number):
    assert any(run_planted(program, number).returncode for program in programs)
