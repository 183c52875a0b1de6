"""A fault planted in the table kernels, in their fit or in the choice among them turns the sweep red."""

from __future__ import annotations

import shutil

import ort_building as building
import pytest
from planting import Fault, plant_faults

from benchmarks import float32_exhaustive as sweep

SET = building.instruction_sets()[-1]
pytestmark = pytest.mark.skipif(
    building.compiler() is None or "avx2" not in building.table_sets(), reason="wants a compiler and AVX2"
)

QUICK = ("-O1", "-ffp-contract=fast", "-fno-trapping-math", "-w")  # a planted fault may leave something unused
FIT, ROW, AVX2, AVX512, CHOICE = "table_fit.cc", "table_row.h", "table_avx2.cc", "table_avx512.cc", "choice.cc"
FAULTS = [
    Fault("a natural logarithm", FIT, "/ lambda) / @-kLn2@;", "-1"),
    Fault("the highest power is left out", FIT, "power < @through.count@;", "through.count - 1"),
    Fault("one segment off", FIT, "std::ceil(@-0.5 - first@)", "0.5 - first"),
    Fault("a straight tail is taken for 0", FIT, "@mode == Mode::Acc && !r.linear@", "mode == Mode::Acc"),
    Fault("Pw is not checked", FIT, "@std::max(r.low, bounded_from(table, kernels, element, curve))@", "r.low"),
    Fault("the edge of a negative kappa", FIT, "@kappa < 0 ? 0x80000000u : 0@", "0"),
    Fault("the gate never reaches 1", FIT, "? 0x1p-11 : @0x1p-26@", "0x1p-18"),
    Fault("the gate never reaches 0", FIT, "@150 + 28@", "100"),
    Fault("NaN is lost", ROW, "@Simd::max(low, Simd::min(high, z))@", "Simd::max(Simd::min(z, high), low)"),
    Fault("the edge is not looked at", ROW, "return @Simd::below(Simd::flipped(z, flip), edge)@", "0"),
    Fault("a power too many", AVX2, "c0 = @_mm256_shuffle_ps(ab, cd, 0x44)@", "_mm256_shuffle_ps(ab, cd, 0)"),
    Fault("subnormal factor", AVX2, "_mm256_set1_epi32(@-125@)", "-200"),
    Fault("half the result", AVX512, "exp2_fraction<Avx512>(sub(v, n))), @n@)", "sub(n, all(1.0f))"),
    Fault("the halves of a table", AVX512, "@_mm512_permutex2var_ps(low[i], segment, high[i])@",
          "_mm512_permutex2var_ps(high[i], segment, low[i])"),
    Fault("subnormal results stay", "layer.cc", "FlushSubnormals flush(@flush_@)", "false"),
    Fault("Pw though Acc is wanted", CHOICE, "@choice.wanted != Wanted::Acc@", "true"),
]  # fmt: skip
CASES = [("acc", 0.0, 1.0), ("acc", 0.5, -0.7), ("pw", 0.02, 1.0), ("pw", 1.0, -1.2)]
STRIDE = 160001  # an odd number: every exponent at 50 mantissas


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The sweep over kernels with every fault in them, each behind its switch."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(building.ORT, folder / "source")
    switch = ("-include", str(plant_faults(folder / "source", FAULTS)))
    for kernel in building.KERNELS:
        building.kernel_object(folder / "source" / kernel.name, folder, *QUICK, *switch)
    truth = ("-O3", "-ffast-math", "-march=native", "-c", building.TESTS / "ort_truth.cc")
    building.compiled(folder / "truth.o", *truth)
    return sweep.link_library("ort_float32_sweep.cc", folder / "sweep", *QUICK)


def _is_red(program, isa):
    for kernel, lambda_, kappa in CASES:
        found = sweep.measure_pair(program, lambda_, kappa, STRIDE, kernel=kernel, isa=isa)
        if found["kernel"] != kernel or list(sweep.find_broken(found, fused=True)):
            return True
    return False


@pytest.mark.parametrize("isa", building.table_sets())
def test_without_a_fault_it_is_green(planted, isa):
    assert not _is_red(planted, isa)


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=[fault.name for fault in FAULTS])
def test_planted_fault_turns_the_sweep_red(planted, monkeypatch, number):
    monkeypatch.setenv("PLANTED", str(number))
    assert _is_red(planted, "avx512" if FAULTS[number - 1].file == AVX512 else "avx2")
