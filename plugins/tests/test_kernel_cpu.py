"""The plugin's kernels, the very source that nvcc compiles, run on the CPU under two sanitizers."""

import pytest
import trt_building as building

KERNELS = ("trt_kernels_cpu.cc", "activation.cc", "layout.cc", "formats.cc")

SUITES = [
    ("trt_error_test.cc", "float32"),
    ("trt_error_test.cc", "float16"),
    ("trt_error_test.cc", "bfloat16"),
    ("trt_error_test.cc", "signed_zero"),
    ("trt_layout_test.cc", "formats"),
    ("trt_layout_test.cc", "strides"),
    ("trt_layout_test.cc", "tails"),
    ("trt_layout_test.cc", "misaligned_formats"),
    ("trt_layout_test.cc", "zero_elements"),
    ("trt_codes_test.cc", "edges"),
    ("trt_codes_test.cc", "any_number"),
    ("trt_codes_test.cc", "special"),
    ("trt_huge_test.cc", "scalar"),
    ("trt_huge_test.cc", "spans"),
    ("trt_huge_test.cc", "lanes"),
    ("trt_huge_test.cc", "codes"),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return building.Programs(tmp_path_factory.mktemp("kernels"), *building.SANITIZED)


@pytest.mark.parametrize(("source", "suite"), SUITES)
def test_suite(programs, source, suite):
    building.ran(programs.program(source, *KERNELS), suite)
