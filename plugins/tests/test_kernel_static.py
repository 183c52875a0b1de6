"""What nvcc made of the kernels, for every architecture: read from the machine code, without a GPU."""

import json
import subprocess
import sys
from collections import Counter

import ort_cuda_building
import pytest
import trt_building as building

sys.path.insert(0, str(building.TENSORRT))
import roofline
import sass

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
# Kernels of one architecture. To the input's type: scalar 3 types x 2 kinds x 2 regimes, lanes, planes and spans
# 3 x 2, clearing 3. To int8: the same, but clearing, which knows only the type that it writes.
FLOATS = {"apply_scalar": 12, "apply_lanes": 6, "apply_planes": 6, "apply_spans": 6, "clear_padding": 3}
CODES = {**FLOATS, "clear_padding": 1}
# 64 registers leave room for 1024 threads on a processor, all that the smallest here (sm_75) holds.
MOST_REGISTERS = 64
# Two exponentials and one logarithm an element; a per-channel kernel has both regimes' paths, of which a
# channel takes one.
MUFU_AN_ELEMENT = 3
PATHS = {"apply_scalar": 1, **roofline.PATHS}


@pytest.fixture(scope="module")
def kernels():
    building.fetched("nvcc.py", "cuobjdump")
    return sass.kernels_of(building.library())


def _elements(kernel):
    """Elements that one lap of the main loop writes."""
    return sass.count(kernel.main_loop(), "STG", width=kernel.stored) * sass.PACK // sass.BYTES[kernel.element]


def _named(kernel):
    return f"sm_{kernel.architecture} {kernel.name}"


def _counted(kernels):
    """Kernels by architecture, function and whether they write int8."""
    return Counter((k.architecture, k.function, k.written == "int8") for k in kernels)


def _wanted(counts, codes):
    return {(a, function, codes): n for a in ARCHITECTURES for function, n in counts.items()}


def test_every_kernel_is_there_for_every_architecture(kernels):
    assert _counted(kernels) == _wanted(FLOATS, False) | _wanted(CODES, True)


def test_the_library_for_onnx_runtime_writes_no_codes():
    """It has no operator that could ask for them, and they would be nearly half of it."""
    building.fetched("nvcc.py", "cuobjdump")
    assert _counted(sass.kernels_of(ort_cuda_building.library(), read_code=False)) == _wanted(FLOATS, False)


def test_newer_gpus_find_ptx():
    cuobjdump = building.fetched("nvcc.py", "cuobjdump")
    done = subprocess.run([cuobjdump, "-lptx", building.library()], capture_output=True, text=True, check=True)
    assert "sm_90.ptx" in done.stdout


def test_nothing_spills(kernels):
    spilling = [
        _named(k) for k in kernels if k.stack or k.local or k.count("LDL", "STL", "LD", "ST") or not k.registers
    ]
    assert not spilling


def test_registers(kernels):
    assert not {_named(k): k.registers for k in kernels if k.registers > MOST_REGISTERS}


def test_main_loops_move_packs(kernels):
    """16 bytes read at a time; as many written, or 8 or 4 bytes of codes."""

    def narrow(kernel):
        loop = kernel.main_loop()
        loads, stores = sass.count(loop, "LDG", width=sass.PACK), sass.count(loop, "STG", width=kernel.stored)
        return not stores or loads < stores or stores != sass.count(loop, "STG")

    assert not [_named(k) for k in kernels if k.function != "clear_padding" and narrow(k)]


def test_scalar_kernels_keep_two_packs_in_flight(kernels):
    scalar = [k for k in kernels if k.function == "apply_scalar"]
    assert not [_named(k) for k in scalar if sass.count(k.main_loop(), "LDG", width=sass.PACK) != 2]


def test_special_functions_an_element(kernels):
    def most(kernel):
        return MUFU_AN_ELEMENT * PATHS[kernel.function] * _elements(kernel)

    tested = [k for k in kernels if k.function in PATHS]
    assert tested
    assert not {_named(k): most(k) for k in tested if not 0 < sass.count(k.main_loop(), "MUFU") <= most(k)}


def test_the_approximations_are_the_hardware_s(kernels):
    """ex2.approx and lg2.approx, and no slow path: nothing else of MUFU in a main loop, and no conversion to
    integers, which is as slow."""
    wrong = [
        (_named(k), i.operation)
        for k in kernels
        if k.function in PATHS
        for i in k.main_loop()
        if i.is_a("MUFU", "F2I", "I2F") and i.operation not in ("MUFU.EX2", "MUFU.LG2")
    ]
    assert not wrong


def test_planes_look_up_once_a_pack(kernels):
    planes = [k for k in kernels if k.function == "apply_planes"]
    wrong = [_named(k) for k in planes if sass.count(k.main_loop(), "LDG") != 2]
    assert planes and not wrong


# griddepcontrol.launch_dependents, griddepcontrol.wait
LETS_NEXT_START, WAITS = "PREEXIT", "ACQBULK"


def test_dependent_launches_from_9_0_and_nowhere_before(kernels):
    found = {_named(k): (k.count(LETS_NEXT_START), k.count(WAITS)) for k in kernels}
    assert found == {_named(k): (1, 1) if k.architecture >= 90 else (0, 0) for k in kernels}


def test_memory_is_touched_in_turn(kernels):
    """After the wait, but for the coefficients of lanes, which no grid writes: one for each element of a pack."""

    def loads_before(kernel):
        return _elements(kernel) if kernel.function == "apply_lanes" else 0

    wrong = []
    for kernel in (k for k in kernels if k.architecture >= 90):
        at = next(i for i, one in enumerate(kernel.instructions) if one.is_a(WAITS))
        before, after = kernel.instructions[:at], kernel.instructions[at:]
        early = sass.count(before, "LDG", "LD"), sass.count(before, "STG", "ST")
        if early != (loads_before(kernel), 0) or not sass.count(after, "STG"):
            wrong.append((_named(kernel), early))
    assert not wrong


def test_the_roofline_is_the_one_that_gpu_check_judges_by(kernels):
    """tools/gpu_check/shares.json; a compiler of another release may differ by a few instructions."""
    known = json.loads((building.ROOT / "tools/gpu_check/shares.json").read_text())
    found = {gpu.name: roofline.shares(kernels, gpu) for gpu in roofline.GPUS}
    assert known.keys() == found.keys()
    for name, shares in found.items():
        assert known[name] == pytest.approx(shares, abs=0.03), name
