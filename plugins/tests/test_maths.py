"""The maths header keeps its contracts (maths_check.cc), and the check notices planted faults."""

from __future__ import annotations

import shutil
import subprocess

import maths_fit
import ort_building as building
import pytest
from planting import Fault, plant_faults, run_planted

pytestmark = pytest.mark.skipif(building.compiler() is None, reason=building.NO_COMPILER)

FAST = ("-O2", "-ffp-contract=fast")
SANITIZED = ("-O1", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")


def _ran(program):
    return subprocess.run([str(program)], capture_output=True, text=True)


@pytest.mark.parametrize("instructions", building.instruction_sets())
def test_contracts(tmp_path, instructions):
    flags = [*FAST, *building.for_instructions(instructions), f"-I{building.INCLUDE}"]
    done = _ran(building.compiled(tmp_path / "check", *flags, building.TESTS / "maths_check.cc"))
    assert done.returncode == 0, done.stdout


def test_contracts_under_sanitizers(tmp_path):
    flags = [*SANITIZED, f"-I{building.INCLUDE}"]
    done = _ran(building.compiled(tmp_path / "check", *flags, building.TESTS / "maths_check.cc"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("polynomial", maths_fit.POLYNOMIALS, ids=lambda p: p.name)
def test_polynomials_are_as_good_as_they_say_and_as_a_fit_gets(polynomial):
    found = maths_fit.relative_error(polynomial, maths_fit.standing(polynomial))
    best = maths_fit.relative_error(polynomial, maths_fit.fitted(polynomial))
    assert found <= polynomial.error
    assert found <= 1.25 * best  # rounding the coefficients moves either by about so much


MATH, VECTOR, NUMBER = "apa/math.h", "apa/vector_math.h", "apa/number.h"
FAULTS = [
    Fault("every lambda is small", MATH, "constexpr double kLargeFrom = @0.25@", "1e30"),
    Fault("every lambda is large", MATH, "kept < @kLargeFrom@", "0"),
    Fault("the limit begins too early", MATH, "constexpr double kSmallestLambda = @0x1p-100@", "0x1p-10"),
    Fault("a digit of log2(e)", MATH, "slope = -kappa * @1.4426950408889634074@", "1.4426940408889634074"),
    Fault("kappa's sign", MATH, "slope = @-kappa@ *", "kappa"),
    Fault("no low half of the slope", MATH, "@slope - static_cast<double>(c.slope)@", "0"),
    Fault("no low half of the rate", MATH, "@rate - static_cast<double>(c.rate)@", "0"),
    Fault("natural logarithm", MATH, "@std::log2(kept)@", "std::log(kept)"),
    Fault("an infinite z meets the low half", MATH, "fma(@bounded@, c.slope_low", "z"),
    Fault("no overflow guard", MATH, "positive = @v > Real(0) ? v : Real(0)@", "Real(0)"),
    Fault("no absolute value", MATH, "magnitude = @v > Real(0) ? v : -v@", "v"),
    Fault("lambda is left out", MATH, "c.slope_low) * @c.lambda@", "1"),
    Fault("the gate is a unit", MATH, "times_exp2_of_product(@Real(1)@, log2", "z"),
    Fault("a device coefficient", MATH, "@-3.574726880e-01f@", "-3.574936880e-01f"),
    Fault("no guard against lg2 near 1", MATH, "x < @0.25f@ ? x *", "0.0f"),
    Fault("float64 without log1p", MATH, "@std::log1p(x)@ * 1.44", "std::log(1 + x)"),
    Fault("NaN is lost in min", VECTOR, "return @limit < x ? limit : x@", "x < limit ? x : limit"),
    Fault("NaN is lost in log2_1p", VECTOR, "return @u == u ? value : u@", "value"),
    Fault("an exp2 coefficient", VECTOR, "@5.550327897e-02f@", "5.550427897e-02f"),
    Fault("the rounder forgets negatives", VECTOR, "static constexpr float kRounder = @12582912.0f@", "8388608.0f"),
    Fault("exp2 stops early", VECTOR, "at_least(@-126.0f@, x)", "-20.0f"),
    # ahead of the products, which a branch between them would keep from being fused
    Fault("the product's low half", VECTOR, "float lo) {\n    const float limit = @126.0f@", "lo = 0, 126.0f"),
    Fault("underflow comes early", VECTOR, "at_most(@-260.0f@ / hi, a)", "-100.0f"),
    Fault("subnormal factor", VECTOR, "@power > -125 ? power : -125@", "power > -127 ? power : -127"),
    Fault("overflow of a fraction", VECTOR, "@(y * power_of_two(first)) * (exp2_fraction(r) * power_of_two(last))@",
          "y * exp2_fraction(r) * power_of_two(first) * power_of_two(last)"),
    Fault("the wrong interval of log2_1p", VECTOR, "- @0x3f400000u@", "0x3f800000u"),
    Fault("a log2_1p coefficient", VECTOR, "@2.881915271e-01f@", "2.882915271e-01f"),
    Fault("ties go away from even", NUMBER, "+ @0xfffu + ((magnitude >> 13) & 1u)@", "0x1000u"),
    Fault("subnormal halves", NUMBER, "subnormal = @as_bits(as_float(magnitude) + 0.5f) - 0x3f000000u@",
          "as_bits(as_float(magnitude) + 0.25f) - 0x3e800000u"),
    Fault("halves overflow late", NUMBER, "magnitude >= @0x47800000u@", "0x48000000u"),
    Fault("NaN becomes inf", NUMBER, "@0x7e00u@ : 0x7c00u", "0x7c00u"),
    Fault("widened subnormals", NUMBER, "- @0x1p-14f@", "0x1p-15f"),
    Fault("bfloat16 is cut off", NUMBER, "(@bits + 0x7fffu + ((bits >> 16) & 1u)@)", "bits"),
    Fault("bfloat16 NaN", NUMBER, "@value == value ? rounded : 0x7fc0u@", "rounded"),
]  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """maths_check.cc over the headers with every fault in them, each behind its switch."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(building.INCLUDE / "apa", folder / "apa")
    switch = ("-include", plant_faults(folder, FAULTS))
    # products are fused where they stand: PRE would move one across a switch, away from its sum
    flags = [*FAST, "-fno-tree-pre", *building.for_instructions(building.instruction_sets()[-1]), "-w"]
    return building.compiled(folder / "check", *flags, *switch, f"-I{folder}", building.TESTS / "maths_check.cc")


def test_without_a_fault_the_check_is_green(planted):
    done = run_planted(planted, 0)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=[fault.name for fault in FAULTS])
def test_planted_fault_turns_the_check_red(planted, number):
    done = run_planted(planted, number)
    assert done.returncode == 1 and "FAIL" in done.stdout
