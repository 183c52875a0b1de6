"""tools/gpu_check as far as a device: its programs compile for a GPU, and their copying is right on the CPU."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apa_deploy.runtimes.cuda_driver import device_count
from tools.gpu_check import building as device_building

sys.path.append(str(device_building.TESTS))

import trt_building as building

HERE = Path(__file__).parent
ARCHITECTURE = 90
QUICK = ("-O0", "-g0")  # to compile: the tests themselves need no sanitizer, their memory has it
NO_GPU = pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")
SANITIZED = building.SANITIZED
# The whole suites run on the device, and in plugins/tests: here, what passes through the copies.
COPIED = [
    ("trt_layout_test.cc", "strides"),  # per channel, every format
    ("trt_layout_test.cc", "misaligned_formats"),
    ("trt_layout_test.cc", "zero_elements"),
    ("trt_int8_test.cc", "values"),
    ("trt_int8_test.cc", "tails"),  # tables per channel, shifted
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("copies")


@pytest.fixture(scope="module")
def parts(folder):
    """Objects of the CPU: the kernels under another name, what copies, and a runtime on main memory."""
    sources = {
        "kernels": (building.TESTS / "trt_kernels_cpu.cc", "-Drun=run_resident"),
        "runtime": (building.TESTS / "cuda_cpu_runtime.cc",),
        "copies": (device_building.DEVICE / "copies.cc",),
        "beyond": (HERE / "beyond.cc",),
        **{name: (building.TENSORRT / f"{name}.cc",) for name in ("activation", "layout", "formats")},
        **{name: (building.TESTS / name, *QUICK) for name in {test for test, _ in COPIED}},
    }

    def compiled(name):
        source, flags = sources[name][0], sources[name][1:]
        return building.compiled(source, folder / f"{name}.o", *(flags if flags == QUICK else (*SANITIZED, *flags)))

    building.include_flags()  # fetched once, before two threads ask
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(sources, pool.map(compiled, sources), strict=True))


def _linked(folder, parts, test, kernels="kernels"):
    names = (test, kernels, "runtime", "copies", "activation", "layout", "formats")
    target = folder / f"{test}.{kernels}"
    return target if target.exists() else building.linked([parts[n] for n in names], target, *SANITIZED)


@pytest.mark.parametrize(("test", "suite"), COPIED)
def test_what_is_copied_is_what_was_meant(folder, parts, test, suite):
    building.ran(_linked(folder, parts, test), suite)


def test_writing_beside_the_tensor_is_seen(folder, parts):
    program = _linked(folder, parts, "trt_int8_test.cc", "beyond")
    done = subprocess.run([program, "values"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAIL int8 not run" in done.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The whole check, on this machine, for a GPU that is not here."""
    if device_count():
        pytest.skip("this machine has a GPU: run tools/gpu_check itself")
    for script in ("nvcc.py", "tensorrt_headers.py"):
        building.fetched(script)
    out = tmp_path_factory.mktemp("report") / "gpu"
    command = [sys.executable, "-m", "tools.gpu_check", "-o", str(out), "--sm", str(ARCHITECTURE), "--json"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=building.ROOT, capture_output=True, text=True, env=environment)
    return done, json.loads(done.stdout), out


@pytest.mark.long
def test_report_says_what_is_missing(report):
    done, document, _ = report
    assert done.returncode == 3
    assert document["verdict"] == "incomplete"
    states = {part["part"]: (part["state"], part["reason"]) for part in document["parts"]}
    assert states["plugin"] == ("passed", "")
    for part in ("kernels", "bandwidth"):
        assert states[part][0] == "missing"
        assert states[part][1].startswith("no device: CUDA driver version is insufficient")
    assert states["driver"][0] == states["torch"][0] == "missing"
    assert states["clocks"][0] == "missing"
    assert "nvidia-smi" in states["clocks"][1]
    assert states["engines"][0] == "missing"
    assert "the package tensorrt, the NVIDIA driver" in states["engines"][1]
    assert states["latency"] == ("missing", "no engine was built; wanted the part 'engines'")
    assert all(part["do"] for part in document["parts"] if part["state"] == "missing")


@pytest.mark.long
def test_both_reports_are_written(report):
    _, document, out = report
    assert json.loads(out.with_suffix(".json").read_text()) == document
    html = out.with_suffix(".html").read_text()
    for part in document["parts"]:
        assert part["part"] in html
        assert part["state"] in html
    assert "http://" not in html and "https://" not in html


@pytest.mark.long
def test_plugin_row(report):
    row = next(part for part in report[1]["parts"] if part["part"] == "plugin")["rows"][0]
    assert row["machine code"] == [ARCHITECTURE]


@NO_GPU
def test_without_a_gpu_and_without_an_architecture(tmp_path):
    command = [sys.executable, "-m", "tools.gpu_check", "-o", str(tmp_path / "r"), "--parts", "kernels"]
    done = subprocess.run(command, cwd=building.ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert "the NVIDIA driver" in done.stdout


def test_misuse(tmp_path):
    command = [sys.executable, "-m", "tools.gpu_check", "-o", str(tmp_path / "r.json")]
    done = subprocess.run(command, cwd=building.ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
