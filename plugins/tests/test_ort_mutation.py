"""A fault planted in the table kernels, in their fit or in the choice among them turns the sweep red."""

from __future__ import annotations

import shutil

import ort_building as building
import pytest

from benchmarks import float32_exhaustive as sweep

SET = building.instruction_sets()[-1]
pytestmark = [
    pytest.mark.skipif(
        building.compiler() is None or not building.table_sets(), reason="wants a compiler and AVX2"
    ),
    pytest.mark.xdist_group("ort-kernels"),
]

QUICK = ("-O1", "-ffp-contract=fast", "-fno-trapping-math", "-w")  # a planted fault may leave something unused
FIT, ROW, AVX2, AVX512, CHOICE = "table_fit.cc", "table_row.h", "table_avx2.cc", "table_avx512.cc", "choice.cc"
FAULTS = [
    # file, fault, line as it is, as it is planted, the instruction set that shows it
    (FIT, "a natural logarithm", "/ lambda) / -kLn2;", "/ lambda) / -1;", "avx2"),
    (FIT, "the highest power is left out", "power < through.count;", "power < through.count - 1;", "avx2"),
    (FIT, "one segment off", "std::ceil(-0.5 - first)", "std::ceil(0.5 - first)", "avx2"),
    (FIT, "a straight tail is taken for 0", "mode == Mode::Acc && !r.linear", "mode == Mode::Acc", "avx2"),
    (FIT, "Pw is not checked", "std::max(r.low, bounded_from(table, kernels, element, curve))", "r.low", "avx2"),
    (FIT, "the edge of a negative kappa", "kappa < 0 ? 0x80000000u : 0", "0", "avx2"),
    (FIT, "the gate never reaches 1", "? 0x1p-11 : 0x1p-26", "? 0x1p-11 : 0x1p-18", "avx2"),
    (FIT, "the gate never reaches 0", "150 + 28", "100", "avx2"),
    (ROW, "NaN is lost", "Simd::max(low, Simd::min(high, z))", "Simd::max(Simd::min(z, high), low)", "avx2"),
    (ROW, "the edge is not looked at", "Simd::below(Simd::flipped(z, flip), edge)", "0", "avx2"),
    (AVX2, "a power too many", "c0 = _mm256_shuffle_ps(ab, cd, 0x44)", "c0 = _mm256_shuffle_ps(ab, cd, 0)", "avx2"),
    (AVX2, "subnormal factor", "_mm256_set1_epi32(-125)", "_mm256_set1_epi32(-200)", "avx2"),
    (AVX512, "half the result", "_mm512_add_ps(n, all(1.0f))", "n", "avx512"),
    (AVX512, "the halves of a table", "(low[i], segment, high[i])", "(high[i], segment, low[i])", "avx512"),
    (CHOICE, "Pw though Acc is wanted", "choice.wanted != Wanted::Acc", "true", "avx2"),
]  # fmt: skip
CASES = [("acc", 0.0, 1.0), ("acc", 0.5, -0.7), ("pw", 0.02, 1.0), ("pw", 1.0, -1.2)]
STRIDE = 160001  # an odd number: every exponent at 50 mantissas


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """A folder with the objects of the kernels as they are, and of the sweep, ready to be linked."""
    folder = tmp_path_factory.mktemp("objects")
    sweep.sweep_program(folder, SET, *QUICK)
    main = building.TESTS / "ort_float32_sweep.cc"
    building.compiled(
        folder / "main.o", *QUICK, *building.with_kernels(folder)[: -len(building.KERNELS)], "-c", main
    )
    return folder


def _relinked(folder):
    return building.compiled(folder / "sweep", *folder.glob("*.o"), "-lm", "-lpthread")


def _is_red(program, isa):
    for kernel, lambda_, kappa in CASES:
        found = sweep.measure_pair(program, lambda_, kappa, STRIDE, kernel=kernel, isa=isa)
        if found["kernel"] != kernel or list(sweep.find_broken(found, fused=True)):
            return True
    return False


@pytest.mark.parametrize("isa", building.table_sets())
def test_without_a_fault_it_is_green(objects, isa):
    assert not _is_red(objects / "sweep", isa)


@pytest.mark.parametrize(("file", "_fault", "line", "planted", "isa"), FAULTS, ids=[f[1] for f in FAULTS])
def test_planted_fault_turns_the_sweep_red(objects, tmp_path, file, _fault, line, planted, isa):
    source = tmp_path / "source"
    shutil.copytree(building.ORT, source)
    text = (source / file).read_text()
    assert line in text, f"{file} no longer has {line!r}"
    (source / file).write_text(text.replace(line, planted))
    shutil.copytree(objects, tmp_path / "objects")
    building.kernel_object(source / (f"table_{isa}.cc" if file == ROW else file), tmp_path / "objects", *QUICK)
    assert _is_red(_relinked(tmp_path / "objects"), isa)
