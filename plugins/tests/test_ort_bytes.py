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


def _run(program, *emulator):
    return subprocess.run([*emulator, program], capture_output=True, text=True)


def test_every_kernel_is_exact(tmp_path):
    done = _run(_program(tmp_path, building.BYTE_KERNELS, *building.kernel_flags()))
    assert done.returncode == 0, done.stdout
    if "x86-64-v3" in building.instruction_sets():
        assert "avx2 checked" in done.stdout
    if building.emulated():
        assert "vbmi checked" in done.stdout


@pytest.mark.skipif(bool(building.NO_CROSS), reason=building.NO_CROSS)
def test_those_of_aarch64_are_exact(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", building.CROSS)
    program = _program(tmp_path, building.BYTE_KERNELS, *building.kernel_flags(), "-static")
    done = _run(program, building.EMULATOR)
    assert done.returncode == 0 and "neon checked" in done.stdout, done.stdout


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
    Fault("the last row left out", "bytes_neon.cc", "r = 1; @r < 4@", "r < 3"),
    Fault("factors swapped", "bytes_neon.cc", "f.b[j] = @pairs.val[1]@", "pairs.val[0]"),
    Fault("sums that wrap", "bytes_neon.cc", "vcombine_u8(@vqmovn_u16(summed(low(a), low(b), f, 0, shift))@",
          "vmovn_u16(summed(low(a), low(b), f, 0, shift))"),
    Fault("rounded sums", "bytes_neon.cc", "@vshlq_s32(low, shift)@", "vrshlq_s32(low, shift)"),
]  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The check of the kernels with every fault in them, each behind its switch: for here, or for aarch64."""
    made = {}

    def program(cross):
        if cross not in made:
            folder = tmp_path_factory.mktemp("planted")
            shutil.copytree(building.ORT, folder / "source")
            header = plant_faults(folder / "source", FAULTS)
            sources = [folder / "source" / one.name for one in building.BYTE_KERNELS]
            made[cross] = _program(folder, sources, *QUICK, *["-static"] * cross, "-include", str(header))
        return made[cross]

    return program


def test_without_a_fault_it_is_green(planted):
    assert run_planted(planted(False), 0).returncode == 0


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=[fault.name for fault in FAULTS])
def test_a_planted_fault_turns_it_red(planted, number, monkeypatch):
    file, here = FAULTS[number - 1].file, building.table_sets()
    if file != "bytes.cc" and ("neon" if "neon" in file else "avx2") not in here:
        if "neon" not in file or building.NO_CROSS:
            pytest.skip("another processor")
        monkeypatch.setenv("CXX", building.CROSS)
        done = run_planted(building.EMULATOR, number, str(planted(True)))
    else:
        done = run_planted(planted(False), number)
    assert done.returncode == 1, done.stdout
