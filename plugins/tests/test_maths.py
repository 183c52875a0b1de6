"""The maths header keeps its contracts (maths_check.cc), and the check notices planted faults."""

from __future__ import annotations

import shutil
import subprocess

import maths_fit
import ort_building as building
import pytest

pytestmark = pytest.mark.skipif(building.compiler() is None, reason=building.NO_COMPILER)

FAST = ("-O2", "-ffp-contract=fast")
QUIET = ("-w",)  # a planted fault may leave something unused
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


MATH, VECTOR, NUMBER = "math.h", "vector_math.h", "number.h"
FAULTS = [
    # file, fault, line as it is, as it is planted
    (MATH, "every lambda is small", "kLargeFrom = 0.25", "kLargeFrom = 1e30"),
    (MATH, "every lambda is large", "kLargeFrom = 0.25", "kLargeFrom = 0"),
    (MATH, "the limit begins too early", "kSmallestLambda = 0x1p-100", "kSmallestLambda = 0x1p-10"),
    (MATH, "a digit of log2(e)", "-kappa * 1.4426950408889634074", "-kappa * 1.4426940408889634074"),
    (MATH, "kappa's sign", "slope = -kappa", "slope = kappa"),
    (MATH, "no low half of the slope", "slope - static_cast<double>(c.slope)", "0"),
    (MATH, "no low half of the rate", "rate - static_cast<double>(c.rate)", "0"),
    (MATH, "natural logarithm", "std::log2(kept)", "std::log(kept)"),
    (MATH, "an infinite z meets the low half", "fma(bounded, c.slope_low", "fma(z, c.slope_low"),
    (MATH, "no overflow guard", "positive = v > Real(0) ? v : Real(0)", "positive = Real(0)"),
    (MATH, "no absolute value", "magnitude = v > Real(0) ? v : -v", "magnitude = v"),
    (MATH, "lambda is left out", "c.slope, c.slope_low) * c.lambda", "c.slope, c.slope_low)"),
    (MATH, "the gate is a unit", "times_exp2_of_product(Real(1), log2", "times_exp2_of_product(z, log2"),
    (MATH, "a device coefficient", "-3.574726880e-01f", "-3.574936880e-01f"),
    (MATH, "no guard against lg2 near 1", "x < 0.25f ? x *", "x < 0.0f ? x *"),
    (MATH, "float64 without log1p", "std::log1p(x) * 1.44", "std::log(1 + x) * 1.44"),
    (VECTOR, "NaN is lost in min", "return limit < x ? limit : x", "return x < limit ? x : limit"),
    (VECTOR, "NaN is lost in log2_1p", "return u == u ? value : u", "return value"),
    (VECTOR, "an exp2 coefficient", "5.550327897e-02f", "5.550427897e-02f"),
    (VECTOR, "the rounder forgets negatives", "kRounder = 12582912.0f", "kRounder = 8388608.0f"),
    (VECTOR, "exp2 stops early", "at_least(-126.0f, x)", "at_least(-20.0f, x)"),
    (VECTOR, "the product's low half", "+ bounded * lo;\n    return exp2", ";\n    return exp2"),
    (VECTOR, "underflow comes early", "at_most(-260.0f / hi, a)", "at_most(-100.0f / hi, a)"),
    (VECTOR, "subnormal factor", "power > -125 ? power : -125", "power > -127 ? power : -127"),
    (VECTOR, "overflow of a fraction", "(y * power_of_two(first)) * (exp2_fraction(r) * power_of_two(last))",
     "y * exp2_fraction(r) * power_of_two(first) * power_of_two(last)"),
    (VECTOR, "the wrong interval of log2_1p", "- 0x3f400000u", "- 0x3f800000u"),
    (VECTOR, "a log2_1p coefficient", "2.881915271e-01f", "2.882915271e-01f"),
    (NUMBER, "ties go away from even", "+ 0xfffu + ((magnitude >> 13) & 1u)", "+ 0x1000u"),
    (NUMBER, "subnormal halves", "+ 0.5f) - 0x3f000000u", "+ 0.25f) - 0x3e800000u"),
    (NUMBER, "halves overflow late", "magnitude >= 0x47800000u", "magnitude >= 0x48000000u"),
    (NUMBER, "NaN becomes inf", "0x7e00u : 0x7c00u", "0x7c00u : 0x7c00u"),
    (NUMBER, "widened subnormals", "- 0x1p-14f", "- 0x1p-15f"),
    (NUMBER, "bfloat16 is cut off", "bits + 0x7fffu + ((bits >> 16) & 1u)", "bits"),
    (NUMBER, "bfloat16 NaN", "value == value ? rounded : 0x7fc0u", "rounded"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "_fault", "line", "planted"), FAULTS, ids=[f[1] for f in FAULTS])
def test_planted_fault_turns_the_check_red(tmp_path, file, _fault, line, planted):
    shutil.copytree(building.INCLUDE / "apa", tmp_path / "apa")
    header = tmp_path / "apa" / file
    text = header.read_text()
    assert text.count(line) >= 1, f"{file} no longer has {line!r}"
    header.write_text(text.replace(line, planted))
    flags = [*FAST, *building.for_instructions(building.instruction_sets()[-1]), f"-I{tmp_path}", *QUIET]
    done = _ran(building.compiled(tmp_path / "check", *flags, building.TESTS / "maths_check.cc"))
    assert done.returncode == 1 and "FAIL" in done.stdout
