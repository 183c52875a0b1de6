"""The kernels on 8-bit codes: exact for all codes, lengths and places, and red where a fault is planted."""

from __future__ import annotations

import shutil
import subprocess

import ort_building as building
import pytest

pytestmark = [
    pytest.mark.skipif(building.compiler() is None, reason=building.NO_COMPILER),
    pytest.mark.xdist_group("ort-kernels"),
]

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
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-unused-function"]
    done = _run(_program(tmp_path, building.BYTE_KERNELS, *flags))
    assert done.returncode == 0, done.stdout + done.stderr


FAULTS = [
    ("bytes.cc", "an entry off", "y[i] = table[x[i]]", "y[i] = table[x[i] ^ (x[i] == 200)]"),
    ("bytes.cc", "signed codes", "(a[i] ^ s.flip)", "a[i]"),
    ("bytes_avx2.cc", "a row off", "r < 8; r++) {\n    v =", "r < 7; r++) {\n    v ="),
    ("bytes_avx2.cc", "halves swapped", "(half(rows.low, v), high, v)", "(high, half(rows.low, v), v)"),
    ("bytes_avx2.cc", "the tail", "scalar_byte_kernels().lookup", "if (n > 300) scalar_byte_kernels().lookup"),
    ("bytes_vbmi.cc", "registers swapped", "rows.at[0], v, rows.at[1]", "rows.at[1], v, rows.at[0]"),
    ("bytes_vbmi.cc", "half the factors", "s.factors + 2 * c + 32 * j", "s.factors + 2 * c + 32 * (j & 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "_fault", "line", "planted"), FAULTS, ids=[f[1] for f in FAULTS])
def test_a_planted_fault_turns_it_red(tmp_path, file, _fault, line, planted):
    if "avx2" not in building.table_sets() and file != "bytes.cc":
        pytest.skip("another processor")
    source = tmp_path / "source"
    shutil.copytree(building.ORT, source)
    text = (source / file).read_text()
    assert line in text, f"{file} no longer has {line!r}"
    (source / file).write_text(text.replace(line, planted))
    sources = [source / one.name for one in building.BYTE_KERNELS]
    assert _run(_program(tmp_path, sources, *QUICK)).returncode != 0
