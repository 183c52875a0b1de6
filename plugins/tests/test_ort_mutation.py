"""A fault planted in the table kernels, in their fit or in the choice among them turns the sweep red."""

from __future__ import annotations

import shutil

import ort_building as building
import pytest
from planting import Fault, plant_faults, run_planted

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
    Fault("Pw is not checked", FIT, "if (@keeps_bound(table, kernels, kind, curve)@)", "true"),
    Fault("rounding does not count", FIT, "std::abs(gate.value - truth) + @rounding@ <= kReached * most", "0"),
    Fault("how large z is does not count", FIT, "static_cast<double>(z[i]), size = @std::abs(factor)@;", "1"),
    Fault("0 too soon", FIT, "constexpr double kGateBound = 0x1p-23, kUnitBound = 0x1p-22, kNothing = @0x1p-24@",
          "0x1p-21"),
    Fault("0 too soon for a small kappa", FIT, "Kind::Gate ? 1 : @std::min(1.0, std::abs(curve.kappa))@", "1.0"),
    Fault("the end is not 1", FIT, "segments - 1, power)] = @power == 0 ? 1 : 0@;", "0"),
    Fault("the start is not 0", FIT, "place_of(table, kernels, 0, power)] = @0@;", "power == 0 ? 0x1p-21f : 0"),
    Fault("the edge of a negative kappa", FIT, "@kappa < 0 ? 0x80000000u : 0@", "0"),
    Fault("the gate never reaches 1", FIT, "? 0x1p-11 : @0x1p-26@", "0x1p-18"),
    Fault("the gate never reaches 0", FIT, "@150 + 28@", "100"),
    Fault("NaN is lost", ROW, "@Simd::max(low, Simd::min(high, z))@", "Simd::max(Simd::min(z, high), low)"),
    Fault("the edge is not looked at", ROW, "kEdge ? @Simd::below(Simd::flipped(z, flip), edge)@ : 0", "0"),
    Fault("a gate below 0", ROW, "@kEdge ? found : Simd::max(Simd::all(0.0f), found)@", "found"),
    Fault("a power too many", AVX2, "c0 = @_mm256_shuffle_ps(ab, cd, 0x44)@", "_mm256_shuffle_ps(ab, cd, 0)"),
    Fault("subnormal factor", AVX2, "_mm256_set1_epi32(@-125@)", "-200"),
    Fault("half the result", AVX512, "exp2_fraction<Avx512>(sub(v, n))), @n@)", "sub(n, all(1.0f))"),
    Fault("the halves of a table", AVX512, "@_mm512_permutex2var_ps(low[i], segment, high[i])@",
          "_mm512_permutex2var_ps(high[i], segment, low[i])"),
    Fault("subnormal results stay", "layer.cc", "FlushSubnormals flush(@flush_@)", "false"),
    Fault("Pw though Acc is wanted", CHOICE, "acc_only = @choice.wanted == Wanted::Acc@", "false"),
]  # fmt: skip
HALF = Fault(
    "a half's Pw is not checked", FIT, "@std::max(r.low, bounded_from(table, kernels, element, curve))@", "r.low"
)
# kernel that is asked for, lambda, kappa, what runs the gate, what runs the unit
CASES = {
    "avx2": [("acc", 0.0, 1.0, "acc", "acc"), ("acc", 0.5, -0.7, "acc", "acc"), ("pw", 0.02, 1.0, "pw", "pw"),
             ("pw", 1.0, -1.2, "pw", "pw"), ("pw", 0.5, 0.1, "pw", "pw"), ("pw", 0.15, 1e-4, "pw", "acc"),
             ("pw", 30.0, 1.0, "acc", "acc")],
    "avx512": [("acc", 0.0, 1.0, "acc", "acc"), ("acc", 0.5, -0.7, "acc", "acc"), ("pw", 0.0, 1.0, "pw", "pw"),
               ("pw", 0.02, 1.0, "pw", "pw"), ("pw", 1.0, -1.2, "pw", "pw"), ("pw", 0.25, 0.1, "pw", "acc")],
}  # fmt: skip
STRIDE = 160001  # an odd number: every exponent at 50 mantissas


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The sweep over kernels with every fault in them, each behind its switch."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(building.ORT, folder / "source")
    switch = ("-include", str(plant_faults(folder / "source", [*FAULTS, HALF])))
    for kernel in building.KERNELS:
        building.kernel_object(folder / "source" / kernel.name, folder, *QUICK, *switch)
    truth = ("-O3", "-ffast-math", "-march=native", "-c", building.TESTS / "ort_truth.cc")
    building.compiled(folder / "truth.o", *truth)
    sweep.link_library("ort_half_sweep.cc", folder / "half", *QUICK)
    return sweep.link_library("ort_float32_sweep.cc", folder / "sweep", *QUICK)


def _is_red(program, isa):
    for kernel, lambda_, kappa, *ran in CASES[isa]:
        found = sweep.measure_pair(program, lambda_, kappa, STRIDE, kernel=kernel, isa=isa)
        if [found[kind]["kernel"] for kind in ("gate", "unit")] != ran or list(
            sweep.find_broken(found, fused=True)
        ):
            return True
    return False


@pytest.mark.parametrize("isa", building.table_sets())
def test_without_a_fault_it_is_green(planted, isa):
    assert not _is_red(planted, isa)


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=[fault.name for fault in FAULTS])
def test_planted_fault_turns_the_sweep_red(planted, monkeypatch, number):
    monkeypatch.setenv("PLANTED", str(number))
    fault = FAULTS[number - 1]
    # wide segments alone need these two
    wide = fault.file == AVX512 or fault.name in ("rounding does not count", "a gate below 0")
    assert _is_red(planted, "avx512" if wide else "avx2")


def test_planted_fault_turns_the_sweep_of_half_types_red(planted):
    half, number = planted.with_name("half"), len(FAULTS) + 1
    assert run_planted(half, 0, "pw", "avx2").returncode == 0
    assert run_planted(half, number, "pw", "avx2").returncode == 1
