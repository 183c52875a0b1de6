"""The kernels on 8-bit codes: exact for all codes, lengths and places, and red where a fault is planted."""

from __future__ import annotations

import shutil
import subprocess

import ort_building as building
import pytest
from planting import Fault, plant_faults, run_planted

pytestmark = pytest.mark.skipif(building.compiler() is None, reason=building.NO_COMPILER)

CHECK = building.TESTS / "ort_bytes_check.cc"
QUICK = ("-O1", "-w")


def _program(folder, sources, *flags):
    for source in sources:
        building.kernel_object(source, folder, *flags)
    include = [f"-I{sources[0].parent}", f"-I{building.INCLUDE}"]
    emulates = ["-DAPA_EMULATES_AVX512"] if building.emulated() else []
    objects = [folder / f"{source.stem}.o" for source in sources]
    return building.compiled(folder / "check", *flags, *include, *emulates, CHECK, *objects)


def _run(program):
    return subprocess.run([program], capture_output=True, text=True)


def test_every_kernel_is_exact(tmp_path):
    done = _run(_program(tmp_path, building.BYTE_KERNELS, *building.kernel_flags()))
    assert done.returncode == 0, done.stdout
    if "x86-64-v3" in building.instruction_sets():
        assert "avx2 checked" in done.stdout
    if building.emulated():
        assert "vbmi checked" in done.stdout


def test_the_same_under_sanitizers(tmp_path):
    flags = building.sanitized("address,undefined")
    done = _run(_program(tmp_path, building.BYTE_KERNELS, *flags))
    assert done.returncode == 0, done.stdout + done.stderr


FAULTS = [
    Fault("an entry off", "bytes.cc", "y[i] = @table[x[i]]@", "table[x[i] ^ (x[i] == 200)]"),
    Fault("signed codes", "bytes.cc", "(@a[i] ^ s.flip@)", "a[i]"),
    Fault("a row off", "bytes_avx2.cc", "@r < 8@; r++) {\n    v =", "r < 7"),
    Fault("halves swapped", "bytes_avx2.cc", "@_mm256_blendv_epi8(half(rows.low, v), high, v)@",
          "_mm256_blendv_epi8(high, half(rows.low, v), v)"),
    Fault("the tail", "bytes_avx2.cc", "@scalar_byte_kernels().lookup(table, x + i, y + i, n - i);@",
          "if (n > 300) scalar_byte_kernels().lookup(table, x + i, y + i, n - i);"),
    Fault("registers swapped", "bytes_vbmi.cc", "@_mm512_permutex2var_epi8(rows.at[0], v, rows.at[1])@",
          "_mm512_permutex2var_epi8(rows.at[1], v, rows.at[0])"),
    Fault("half the factors", "bytes_vbmi.cc", "s.factors + 2 * c + 32 * @j@", "j & 1"),
]  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The check of the kernels with every fault in them, each behind its switch."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(building.ORT, folder / "source")
    header = plant_faults(folder / "source", FAULTS)
    sources = [folder / "source" / one.name for one in building.BYTE_KERNELS]
    return _program(folder, sources, *QUICK, "-include", str(header))


def test_without_a_fault_it_is_green(planted):
    assert run_planted(planted, 0).returncode == 0


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=[fault.name for fault in FAULTS])
def test_a_planted_fault_turns_it_red(planted, number):
    if "avx2" not in building.table_sets() and FAULTS[number - 1].file != "bytes.cc":
        pytest.skip("another processor")
    assert run_planted(planted, number).returncode != 0
