"""What the built library shows and needs; and that an install without nvcc or headers goes on."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import trt_building as building

from apa_deploy import native


def _said(*command, **environment):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout + done.stderr


def test_only_two_symbols_are_exported():
    _, printed = _said("nm", "-D", "--defined-only", building.library())
    assert sorted(line.split()[-1] for line in printed.splitlines()) == ["getCreators", "setLoggerFinder"]


def test_neither_tensorrt_nor_cuda_nor_a_cpp_runtime_is_needed():
    """So that one file serves every TensorRT, on a machine without a toolkit. libgcc_s is there wherever Python's
    own packages are, and its unwinder inside the library would want a newer glibc."""
    _, printed = _said("readelf", "-d", building.library())
    needed = set(re.findall(r"NEEDED.*\[(.+)\.so", printed))
    system = {"libc", "libm", "libgcc_s", "libpthread", "libdl", "librt", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert needed <= system


def test_the_package_finds_it():
    library = building.library()
    if library.parent != native.FOLDER:
        pytest.skip("the library is built elsewhere")
    assert native.trt_plugin_library() == library


@pytest.mark.parametrize(
    ("built", "driver", "wanted"),
    [(True, (12, 8), "_cu12"), (True, (13, 0), ""), (True, None, ""), (False, (12, 8), "")],
)
def test_the_driver_chooses_the_library(built, driver, wanted, tmp_path, monkeypatch):
    for name in ("", "_cu12")[: 1 + built]:
        (tmp_path / f"libapa_trt{name}.so").touch()
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    monkeypatch.setattr(native, "cuda_version", lambda: driver)
    assert native.trt_plugin_library() == tmp_path / f"libapa_trt{wanted}.so"


def _configured(tmp_path, **environment):
    cmake = shutil.which("cmake") or pytest.skip("cmake is not installed")
    code, printed = _said(
        cmake,
        "-S",
        building.ROOT,
        "-B",
        tmp_path / "build",
        "-DSKBUILD_STATE=wheel",
        "-DAPA_PARTS=tensorrt",
        APA_FETCH_CACHE=str(tmp_path / "cache"),
        APA_NO_FETCH="1",
        **environment,
    )
    return code, " ".join(printed.split())


def _without(program):
    """PATH without the folders that hold `program`."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(f for f in folders if not os.access(os.path.join(f, program), os.X_OK))  # noqa: PTH118


def test_an_install_without_headers_goes_on(tmp_path):
    code, printed = _configured(tmp_path, TENSORRT_ROOT=str(tmp_path))
    assert code == 0
    assert f"no NvInferRuntime.h >= 10.7 under TENSORRT_ROOT={tmp_path}" in printed
    assert "libapa_trt.so is not built" in printed


def test_an_install_without_nvcc_goes_on(tmp_path):
    building.compiler()
    environment = {"TENSORRT_ROOT": str(building.fetched("tensorrt_headers.py"))}
    code, printed = _configured(tmp_path, PATH=_without("nvcc"), CUDACXX="", **environment)
    assert code == 0
    assert "APA_NO_FETCH forbids fetching it. Install the CUDA toolkit" in printed
    assert "libapa_trt.so is not built" in printed
    script = re.search(r"(\S+/build_cuda12\.sh), among the plugin's sources", printed)
    assert script and (building.ROOT / "plugins" / script[1]).is_file()


def test_an_install_with_an_nvcc_that_fails_goes_on(tmp_path):
    building.compiler()
    nvcc = tmp_path / "nvcc"
    nvcc.write_text('#!/bin/sh\necho "nvcc fatal: unsupported GNU version" >&2\nexit 1\n')
    nvcc.chmod(0o755)
    environment = {"TENSORRT_ROOT": str(building.fetched("tensorrt_headers.py"))}
    code, printed = _configured(tmp_path, CUDACXX=str(nvcc), **environment)
    assert code == 0
    assert "libapa_trt.so is not built" in printed
    assert "unsupported GNU version" in printed


FETCH_REFUSALS = [
    ("tensorrt_headers.py", {"TENSORRT_ROOT": "/nonexistent"}, "no NvInferRuntime.h"),
    ("nvcc.py", {"CUDACXX": "/nonexistent/nvcc"}, "CUDACXX=/nonexistent/nvcc is not a program"),
]


@pytest.mark.parametrize(("script", "environment", "message"), FETCH_REFUSALS)
def test_a_wrong_place_is_an_answer_not_a_fetch(script, environment, message):
    code, printed = _said(sys.executable, building.FETCH / script, **environment)
    assert code == 3
    assert message in printed
