"""The CPU library's kernels and layers, without ONNX Runtime: exact for every type, shape and place."""

from __future__ import annotations

import itertools
import subprocess

import numpy as np
import ort_building as building
import pytest

from benchmarks import aarch64, avx512
from benchmarks import float32_exhaustive as sweep

pytestmark = [
    pytest.mark.skipif(building.compiler() is None, reason=building.NO_COMPILER),
    pytest.mark.slow,
]

SETS = building.instruction_sets()
LAYERS = building.TESTS / "ort_layer_check.cc"


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """ort_layer_check.cc for an instruction set, compiled once."""
    folder, made = tmp_path_factory.mktemp("check"), {}

    def program(instructions):
        if instructions not in made:
            (objects := folder / (instructions or "any")).mkdir()
            kernels = building.kernel_objects(objects, instructions)
            flags = [*building.kernel_flags(), *building.for_instructions(instructions)]
            made[instructions] = building.compiled(folder / f"check{instructions}", *flags, LAYERS, *kernels)
        return made[instructions]

    return program


def _passes(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("instructions", SETS)
def test_shapes_types_tails_alignment_threads_refusals(check, instructions):
    _passes(check(instructions))


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_the_same_under_sanitizers(tmp_path, sanitizer):
    flags = building.sanitized(sanitizer)
    kernels = building.kernel_objects(tmp_path, "", *flags)
    _passes(building.compiled(tmp_path / "check", *flags, LAYERS, *kernels))


def test_instruction_sets_agree(check, tmp_path):
    """Bit for bit where both fuse products and sums, else within the sum of the two contracts' bounds."""
    values = {}
    for name in SETS:
        _passes(check(name), tmp_path / name)
        values[name] = np.fromfile(tmp_path / name, np.float32).reshape(-1, 2, 200001)  # lambda, kind, input
    *others, newest = SETS
    for name in others:
        if name != "x86-64":
            assert np.array_equal(values[name].view(np.int32), values[newest].view(np.int32)), name
            continue
        got, wanted = values[name].astype(np.float64), values[newest].astype(np.float64)
        depth = 2 - np.log2(np.maximum(wanted[:, :1], 2.0**-149))
        ulp = np.maximum(np.spacing(np.abs(values[newest])), np.float32(2.0**-149))
        # 5 without an fma, 3 with one; a value and its neighbour may lie in binades apart: twice the ulp.
        assert (np.abs(got - wanted) <= 2 * (5 + 3) * depth * ulp).all()


# A prime stride: every exponent of both signs is met at 2^23 / 4001, about 2,100, mantissas all over it.
STRIDE = 4001
LAMBDAS = (0.0, 1e-30, 1e-8, 1e-4, 0.01, 0.2, 0.25, 0.5, 1.0, 3.0, 100.0, 1e6)
KAPPAS = (1.1, -0.7, 0.0, 30.0)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    made = {}

    def of(instructions):
        if instructions not in made:
            made[instructions] = sweep.sweep_program(tmp_path_factory.mktemp("sweep"), instructions)
        return made[instructions]

    return of


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("lambda_", LAMBDAS)
def test_float32_keeps_the_bound_of_its_lambda(program, instructions, lambda_):
    for kappa in KAPPAS:
        found = sweep.measure_pair(program(instructions), lambda_, kappa, STRIDE)
        assert not list(sweep.find_broken(found, fused=instructions != "x86-64")), kappa


# Emulation takes about a hundred times as long: every exponent is met at 100 mantissas still.
TABLE_STRIDE = {"avx512": 80021 if building.emulated() else STRIDE}


@pytest.mark.parametrize("isa", building.table_sets())
@pytest.mark.parametrize("kernel", ["acc", "pw"])
def test_table_kernels_keep_their_bounds(program, kernel, isa):
    """`pw` the absolute one, wherever it is taken; `acc` the relative one of the formula."""
    for lambda_, kappa in itertools.product(LAMBDAS, KAPPAS):
        found = sweep.measure_pair(
            program(SETS[-1]), lambda_, kappa, TABLE_STRIDE.get(isa, STRIDE), kernel=kernel, isa=isa
        )
        assert not list(sweep.find_broken(found, fused=True)), (lambda_, kappa)
        for kind in ("gate", "unit"):
            certain = kernel == "acc" or (lambda_ <= 1 and (kind == "gate" or abs(kappa) > 0.5))
            wanted = {"exact"} if not kappa else {kernel} if certain else {"pw", "acc"}
            assert found[kind]["kernel"] in wanted, (lambda_, kappa, kind)
        assert kernel == "acc" or lambda_ < 100 or found["gate"]["kernel"] != "pw"


@pytest.mark.parametrize("isa", building.table_sets())
def test_a_small_kappa_takes_acc_where_pw_would_pass_its_bound(program, isa):
    """|z| = |u / kappa| multiplies the error of the gate; where lambda is large, so do wider segments."""
    ran = {}
    for lambda_, kappa in itertools.product((0.0, 0.15, 0.7, 1.7, 2.5), (1e-4, 0.03, -0.12, 0.25)):
        found = sweep.measure_pair(
            program(SETS[-1]), lambda_, kappa, TABLE_STRIDE.get(isa, STRIDE), kernel="pw", isa=isa
        )
        assert not list(sweep.find_broken(found, fused=True)), (lambda_, kappa)
        ran[lambda_, kappa] = found["unit"]["kernel"]
    assert {ran[0.0, 1e-4], ran[0.15, 1e-4]} == {"acc"}
    assert {ran[0.0, 0.25], ran[0.7, 0.25]} == {"pw"}


@pytest.mark.parametrize("isa", building.table_sets())
def test_pw_keeps_its_bound_where_segments_meet(program, isa):
    """Where lambda and kappa leave the table just within it, few floats are outside if an end is not looked at."""
    border = program(SETS[-1]).with_name("border")
    if not border.exists():
        sweep.link_library("ort_border_check.cc", border)
    _passes(border, isa)


@pytest.mark.parametrize("isa", building.table_sets())
@pytest.mark.parametrize("kernel", ["acc", "pw"])
def test_every_half_is_within_one_ulp(program, kernel, isa):
    half = program(SETS[-1]).with_name("half")
    if not half.exists():
        sweep.link_library("ort_half_sweep.cc", half)
    _passes(half, kernel, isa)


def test_no_code_for_one_processor_leaves_its_file(program):
    """A weak symbol in these objects might be linked into what runs elsewhere."""
    folder = program(SETS[-1]).parent
    for name in ("table_avx2.o", "table_avx512.o"):
        if name == "table_avx512.o" and building.emulated():
            continue  # what is emulated is ordinary code
        symbols = subprocess.run(["nm", "-C", folder / name], capture_output=True, text=True, check=True).stdout
        kinds = {line.split()[-2 if len(line.split()) < 4 else 1] for line in symbols.splitlines()}
        assert not kinds & {"W", "V", "u"}, symbols


@pytest.mark.skipif("x86-64-v3" not in SETS, reason="the kernels are for x86-64")
def test_nothing_is_compared_in_the_loop_of_pw():
    """No edge: whatever the lambda, one lookup an element. benchmarks/avx512.py counts the cycles of this loop."""
    lines = avx512.assembly(building.ROOT / "plugins")
    for name, which in avx512.KERNELS.items():
        body, registers = avx512.inner_loop(lines, *which)
        assert registers == 4
        compares = sum("vcmp" in line for line in body)
        assert compares == (0 if name.startswith("pw") else registers), name


@pytest.fixture
def cross_compiler(monkeypatch):
    monkeypatch.setenv("CXX", building.CROSS)


@pytest.mark.skipif(bool(building.NO_CROSS), reason=building.NO_CROSS)
def test_aarch64_keeps_the_contracts_and_gives_the_same_bits(check, cross_compiler, monkeypatch, tmp_path):
    flags = [*building.kernel_flags(), "-static"]
    kernels = building.kernel_objects(tmp_path, "", *flags)
    maths = building.compiled(
        tmp_path / "maths", *flags, f"-I{building.INCLUDE}", building.TESTS / "maths_check.cc"
    )
    layers = building.compiled(tmp_path / "layers", *flags, LAYERS, *kernels)
    for command in ([maths], [layers], [layers, tmp_path / "aarch64"], [layers, tmp_path / "neon", "neon"]):
        _passes(building.EMULATOR, *command)
    if SETS[-1] in ("x86-64-v3", "x86-64-v4"):
        monkeypatch.undo()
        _passes(check(SETS[-1]), tmp_path / "here")
        _passes(check(SETS[-1]), tmp_path / "avx2", "avx2")
        for here, there in (("here", "aarch64"), ("avx2", "neon")):
            assert (tmp_path / here).read_bytes() == (tmp_path / there).read_bytes(), there


@pytest.mark.skipif(bool(building.NO_CROSS), reason=building.NO_CROSS)
def test_aarch64_takes_the_fewest_instructions_with_pw_and_the_most_with_the_formula(cross_compiler, tmp_path):
    program = aarch64.counting_program(tmp_path)
    exact, acc, pw = (aarch64.count_instructions(program, kernel, 0.5) for kernel in aarch64.KERNELS)
    assert exact > 1.3 * acc > 1.3 * pw
