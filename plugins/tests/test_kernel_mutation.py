"""The tests see what they should: every planted fault (trt_faults.py) turns a suite red."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import trt_building as building
from trt_faults import FAULTS

# Fast to compile: alignment of packs is the one thing that only a sanitizer sees here.
FLAGS = ("-g0", "-fsanitize=alignment", "-fno-sanitize-recover=all", "-Wno-unused", "-Wno-unused-parameter")
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
# The test programs, the quickest to find a fault first.
PROGRAMS = {
    "trt_layout_test.cc": KERNELS,
    "trt_int8_test.cc": KERNELS,
    "trt_huge_test.cc": KERNELS,
    "trt_runtime_test.cc": PLUGIN,
    "trt_creator_test.cc": PLUGIN,
    "trt_build_test.cc": PLUGIN,
    "trt_error_test.cc": KERNELS,
}
# A source that a fault lies in, where it is not compiled itself.
COMPILED_IN = {".cuh": "trt_kernels_cpu.cc", ".cu": "trt_kernels_cpu.cc"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The objects of the sources as they are."""
    programs = building.Programs(tmp_path_factory.mktemp("sound"), *FLAGS)
    for test, sources in PROGRAMS.items():
        programs.program(test, *sources)
    return programs


def _recompiled(path):
    """Which compiled sources a change of this file concerns."""
    if path.startswith("include/"):
        return ("trt_kernels_cpu.cc", "activation.cc", "plugin.cc", "plugin_runtime.cc")
    suffix = path[path.rindex(".") :]
    return (COMPILED_IN.get(suffix, path.rsplit("/", 1)[-1]),)


def _planted(folder, path, old, new):
    """A copy of the sources with the fault in it."""
    for part in ("tensorrt", "include"):
        shutil.copytree(building.ROOT / "plugins" / part, folder / part)
    text = (folder / path).read_text()
    assert text.count(old) == 1, f"{path} holds {text.count(old)} times: {old}"
    (folder / path).write_text(text.replace(old, new))


def _objects(folder, sound, path):
    """The sound objects, with those compiled anew that the fault lies in."""
    objects = dict(sound.objects)
    for name in _recompiled(path):
        source = building.TESTS / name
        source = source if source.exists() else folder / "tensorrt" / name
        includes = (f"-I{folder / 'tensorrt'}", f"-I{folder / 'include'}")
        objects[name] = building.compiled(source, folder / f"{name}.o", *FLAGS, *includes)
    return objects


def _seen_by(folder, objects, changed):
    """The first test program that fails, or None; of those that hold a changed source."""
    environment = {**os.environ, "STOP_AT_FIRST": "1"}
    for test, sources in PROGRAMS.items():
        if not set(sources) & set(changed):
            continue
        program = building.linked([objects[name] for name in (test, *sources)], folder / "program", *FLAGS)
        if subprocess.run([program], capture_output=True, env=environment, timeout=100).returncode:
            return test
    return None


def test_the_sound_sources_are_green(sound, tmp_path):
    assert _seen_by(tmp_path, sound.objects, KERNELS) is None


# One of each kind that trt_faults.py names; the others of a kind are found by the same tests.
ONE_OF_A_KIND = (
    "packs in flight side by side",
    "tail of lanes",
    "stride with a gap",
    "any alignment taken for packs",
    "padding of the first group",
    "half rounded towards zero",
    "lambda and kappa exchanged",
    "enqueue after a refusal",
)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([row for row in FAULTS if row[0] in ONE_OF_A_KIND], id="one of a kind"),
        pytest.param(
            [row for row in FAULTS if row[0] not in ONE_OF_A_KIND], id="the others", marks=pytest.mark.long
        ),
    ],
)
def test_every_fault_is_seen(faults, sound, tmp_path):
    assert len(faults) >= len(ONE_OF_A_KIND)

    def survives(row):
        number, (_, path, old, new) = row
        folder = tmp_path / str(number)
        _planted(folder, path, old, new)
        return _seen_by(folder, _objects(folder, sound, path), _recompiled(path)) is None

    with ThreadPoolExecutor(max_workers=2) as pool:
        alive = list(pool.map(survives, enumerate(faults)))
    survivors = [name for (name, *_), lives in zip(faults, alive, strict=True) if lives]
    assert not survivors, f"{len(survivors)} of {len(faults)} faults are not seen: {survivors}"
