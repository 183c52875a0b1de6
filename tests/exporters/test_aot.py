"""The kernels of --activation aot as text: their coefficients, and that they assemble for the oldest driver."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from apa_exporters.tensorrt.on_target import aot

from apa_deploy.graph.kernels import fold_kernel
from apa_deploy.native import LibraryError, aot_kernels

ROOT = Path(__file__).parents[2]
CASES = [(0.0, 1.0), (1e-8, -0.3), (0.2499, 1.7), (0.25, 0.0), (1.0, 1.0), (7.3, -2.5), (100.0, 1e-3)]
PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include "apa/math.h"
int main(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const auto c = apa::coefficients<float>(std::atof(argv[i]), std::atof(argv[i + 1]));
    for (size_t k = 0; k < sizeof c; k++) std::printf("%02x", reinterpret_cast<const unsigned char*>(&c)[k]);
    std::printf("\\n");
  }
}
"""
NAMES = [
    f"apa_{k}_{r}_{e}" for k in ("unit", "gate") for r in ("small", "large") for e in ("float", "half", "bfloat16")
]


def test_coefficients_are_those_of_the_library(tmp_path):
    """Byte for byte what plugins/include/apa/math.h folds."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    source = tmp_path / "fold.cc"
    source.write_text(PROGRAM)
    program = tmp_path / "fold"
    subprocess.run(
        [compiler, "-std=c++17", f"-I{ROOT}/plugins/include", str(source), "-o", str(program)], check=True
    )
    given = [repr(value) for case in CASES for value in case]
    said = subprocess.run([program, *given], check=True, capture_output=True, text=True).stdout.split()
    assert [fold_kernel("AGLU", *case).coefficients.hex() for case in CASES] == said
    assert [fold_kernel("AGLU", *case).regime for case in CASES] == ["small"] * 3 + ["large"] * 4


@pytest.fixture(scope="module")
def kernels():
    try:
        return aot_kernels().read_text()
    except LibraryError as error:
        pytest.skip(str(error))


def test_a_kernel_stands_alone_with_its_coefficients(kernels):
    coefficients = fold_kernel("AGLU", 0.5, 1.2).coefficients
    for name in NAMES:
        text = aot.kernel_text(kernels, name, coefficients)
        assert text.count(".entry") == 1 and f".entry {name}(" in text
        assert text.count("apa_coefficients[32] = {" + ", ".join(map(str, coefficients)) + "}") == 1
        assert ".version 6.3\n.target sm_75" in text and "ld.const" in text
    with pytest.raises(KeyError):
        aot.kernel_text(kernels, "apa_unit", coefficients)


def _ptxas_12_4():
    """The oldest that is promised, fetched as the build fetches: what it takes, a driver of its time takes."""
    script = Path(__file__).parents[2] / "plugins/fetch/cuda12.py"
    done = subprocess.run([sys.executable, script, "ptxas"], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.parametrize("find", [lambda: shutil.which("ptxas"), _ptxas_12_4], ids=["here", "12.4"])
def test_every_kernel_assembles(architecture, find, kernels, tmp_path):
    ptxas = find() or pytest.skip("no ptxas in PATH: it comes with the CUDA toolkit")
    for name in NAMES:
        (tmp_path / "k.ptx").write_text(aot.kernel_text(kernels, name, fold_kernel("AGLU", 0.1, 1.2).coefficients))
        command = [ptxas, f"-arch={architecture}", "-v", str(tmp_path / "k.ptx"), "-o", str(tmp_path / "k.cubin")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "0 bytes stack frame, 0 bytes spill stores" in done.stderr
