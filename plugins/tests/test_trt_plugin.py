"""Every method of the plugin, driven from C++ where TensorRT stands.

Compiled for the CPU under two sanitizers, and as the library that nvcc built.
"""

import json
import os
from pathlib import Path

import pytest
import trt_building as building

pytestmark = pytest.mark.slow

PLUGIN = (
    "trt_kernels_cpu.cc",
    "cuda_cpu_runtime.cc",
    "activation.cc",
    "device_memory.cc",
    "entry.cc",
    "fields.cc",
    "formats.cc",
    "layout.cc",
    "log.cc",
    "plugin.cc",
    "plugin_runtime.cc",
)
CREATOR = [
    ("trt_creator_test.cc", suite)
    for suite in ("creators", "accepted", "refused", "null_arguments", "unaligned_data")
]
BUILD = [
    ("trt_build_test.cc", suite)
    for suite in (
        "capabilities",
        "output_types",
        "output_shapes",
        "formats",
        "disagreeing_formats",
        "configurations",
        "timing_cache",
        "metadata",
    )
]
RUNTIME = [
    ("trt_runtime_test.cc", suite)
    for suite in (
        "values",
        "shapes",
        "memory",
        "unchanged",
        "misuse",
        "failing_device",
        "failing_memory",
    )
]
TURNS = ("chains", "launches")
ON_DEVICE = ("values", "copies", "recorded", "contexts", "addresses", "large", "host")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return building.Programs(tmp_path_factory.mktemp("plugin"), *building.SANITIZED)


@pytest.fixture(scope="module")
def with_library(tmp_path_factory):
    """A function: the program of one test source, linked to the built library."""
    folder, library = tmp_path_factory.mktemp("library"), building.library()

    def program(source):
        target = folder / source.removesuffix(".cc")
        if not target.exists():
            compiled = building.compiled(building.TESTS / source, folder / f"{source}.o")
            building.linked([compiled, library], target, f"-Wl,-rpath,{library.parent}", "-ldl")
        return target

    return program


@pytest.mark.parametrize(("source", "suite"), CREATOR + BUILD + RUNTIME)
def test_sources(programs, source, suite):
    building.ran(programs.program(source, *PLUGIN), suite)


@pytest.mark.parametrize("suite", TURNS)
def test_nothing_is_touched_out_of_turn(programs, suite):
    building.ran(programs.program("trt_turns_test.cc", *PLUGIN), suite)


@pytest.mark.parametrize("wanted", [None, "1", "0", "yes"])
def test_dependent_launches_are_asked_for_by_name(programs, wanted, monkeypatch):
    monkeypatch.delenv("APA_DEPENDENT_LAUNCH", raising=False)
    if wanted:
        monkeypatch.setenv("APA_DEPENDENT_LAUNCH", wanted)
    building.ran(programs.program("trt_turns_test.cc", *PLUGIN), "plugin")


@pytest.mark.parametrize("suite", ON_DEVICE)
def test_what_runs_on_a_device(programs, suite):
    """tools/gpu_check runs this program with the built library on a device; here it is of the same sources."""
    program = programs.program("trt_on_device_test.cc", *PLUGIN, "cuda_cpu_streams.cc")
    row = json.loads(building.ran(program, "--small", suite))
    assert (row["suite"], row["failures"]) == (suite, 0)
    assert row["checks"] > 0


@pytest.mark.parametrize(("source", "suite"), CREATOR + BUILD)
def test_library(with_library, source, suite):
    building.ran(with_library(source), suite)


def test_library_without_a_device(with_library):
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    building.ran(with_library("trt_device_test.cc"), "no_device")


def test_library_leaves_memory(tmp_path):
    compiled = building.compiled(building.TESTS / "trt_unload_test.cc", tmp_path / "unload.o")
    program = building.linked([compiled], tmp_path / "unload", "-ldl")
    building.ran(program, os.fspath(building.library()))
