"""tools/gpu_check as far as a device: its programs compile for a GPU, and their copying is right on the CPU."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apa_deploy.errors import MissingError
from apa_deploy.runtimes.cuda_driver import device_count
from tools.gpu_check import building as device_building
from tools.gpu_check.check import Check
from tools.gpu_check.exhaustive import check_every_float
from tools.gpu_check.kernels import check_plugin as device_plugin
from tools.gpu_check.outcome import Outcome, State
from tools.gpu_check.parts import PARTS
from tools.gpu_check.prepared import prepare

sys.path.append(str(device_building.TESTS))

import trt_building as building

HERE = Path(__file__).parent
OFFLINE = device_building.ROOT / "tools/gpu_check/offline"
ARCHITECTURE = 90
QUICK = ("-O0", "-g0")  # to compile: the tests themselves need no sanitizer, their memory has it
NO_GPU = pytest.mark.skipif(device_count() > 0, reason="this machine has a GPU")
SANITIZED = building.SANITIZED
ALONE = "-DCAPTURES_ELSEWHERE=false"  # no other thread of these programs captures a graph
# The whole suites run on the device, and in plugins/tests: here, what passes through the copies.
COPIED = [
    ("trt_layout_test.cc", "strides"),  # per channel, every format
    ("trt_layout_test.cc", "misaligned_formats"),
    ("trt_layout_test.cc", "tails"),  # shifted, int8 results too
    ("trt_layout_test.cc", "zero_elements"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("copies")


@pytest.fixture(scope="module")
def parts(folder):
    """Objects of the CPU: the kernels under another name, what copies, and a runtime on main memory."""
    sources = {
        "kernels": (building.TESTS / "trt_kernels_cpu.cc", "-Drun=run_resident"),
        "runtime": (building.TESTS / "cuda_cpu_runtime.cc", ALONE),
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
    program = _linked(folder, parts, "trt_layout_test.cc", "beyond")
    done = subprocess.run([program, "strides"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "per channel unit shifts 00: not run" in done.stdout


def test_every_float_program_on_the_cpu(tmp_path):
    """With the documented errors of a device's functions, on each 2^17th float; and with a fault it is red."""
    flags = ("-O2", "-I", str(device_building.DEVICE))
    runtime = building.compiled(building.TESTS / "cuda_cpu_runtime.cc", tmp_path / "runtime.o", ALONE)
    for fault in ((), ("-DFAULT=1.00001f",)):
        program = building.compiled(HERE / "exhaustive_cpu.cc", tmp_path / "exhaustive.o", *flags, *fault)
        outcome = check_every_float(building.linked([program, runtime], tmp_path / "exhaustive"), tmp_path, 1 << 17)
        assert outcome.state == (State.FAILED if fault else State.PASSED), outcome.reason
        assert [row["floats"] for row in outcome.rows] == [1 << 15] * 48


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared folder for one GPU that is not here, with the smallest of its wheels."""
    if device_count():
        pytest.skip("this machine has a GPU: run tools/gpu_check itself")
    for script in ("nvcc.py", "tensorrt_headers.py"):
        building.fetched(script)
    folder = tmp_path_factory.mktemp("prepared") / "folder"
    facts = prepare(folder, architectures=[ARCHITECTURE], wheels=[["mdurl"]])
    assert facts["bytes"] < 20 << 20
    return folder


@pytest.fixture(scope="module")
def report(prepared, tmp_path_factory):
    """The whole check, offline, on this machine."""
    out = tmp_path_factory.mktemp("results")
    command = [sys.executable, str(OFFLINE), str(out), "--prepared", str(prepared), "--json"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True)
    return done, json.loads(done.stdout), out


@pytest.mark.long
def test_report_says_what_is_missing(report):
    done, document, _ = report
    assert done.returncode == 3
    assert (document["verdict"], document["not ended"]) == ("incomplete", [])
    states = {part["part"]: (part["state"], part["reason"]) for part in document["parts"]}
    assert list(states) == list(PARTS)
    for part in ("library", "operators", "exhaustive", "kernels"):
        assert states[part][0] == "skipped", states
    assert states["exhaustive"][1].startswith("no device: CUDA driver version is insufficient")
    assert "nvidia-smi" in states["clocks"][1]
    assert "the package tensorrt, the NVIDIA driver" in states["engines"][1]
    assert states["latency"] == ("skipped", "no engine was built; wanted the part 'engines'")
    assert all(part["do"] for part in document["parts"] if part["state"] == "skipped")


@pytest.mark.long
def test_three_small_files_are_written(report):
    _, document, out = report
    assert sorted(path.name for path in out.iterdir()) == [f"gpu_check.{end}" for end in ("html", "json", "log")]
    assert json.loads((out / "gpu_check.json").read_text()) == document
    html = (out / "gpu_check.html").read_text()
    for part in document["parts"]:
        assert part["part"] in html
        assert part["state"] in html
    assert "http://" not in html and "https://" not in html


@pytest.mark.long
def test_a_prepared_folder_of_other_sources_is_refused(prepared, tmp_path):
    facts = json.loads((prepared / "prepared.json").read_text())
    other = tmp_path / "other"
    shutil.copytree(prepared, other)
    (other / "prepared.json").write_text(json.dumps(facts | {"sources": "0" * 64}))
    done = subprocess.run([sys.executable, OFFLINE, tmp_path, "--prepared", other], capture_output=True, text=True)
    assert done.returncode == 2
    assert "was made from other sources" in done.stderr
    assert device_plugin(prepared / "libraries/libapa_trt.so", ARCHITECTURE).state is State.PASSED
    assert device_plugin(prepared / "libraries/libapa_trt.so", 80).state is State.FAILED


@NO_GPU
def test_without_a_gpu_and_without_an_architecture(tmp_path):
    command = [sys.executable, "-m", "tools.gpu_check", "-o", str(tmp_path / "r"), "--parts", "kernels"]
    done = subprocess.run(command, cwd=building.ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert "the NVIDIA driver" in done.stdout


def test_without_a_prepared_folder(tmp_path):
    done = subprocess.run([OFFLINE, tmp_path / "out", "--prepared", tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert "python -m tools.gpu_check.prepared" in done.stderr
    assert not list(tmp_path.iterdir())


HANGS = """
import sys, time
from pathlib import Path
from tools.gpu_check import parts
from tools.gpu_check.outcome import Outcome, State
from tools.gpu_check.programs import ask
from tools.gpu_check.time_limits import Limit

def hang(check):
    check.keep(Outcome("clocks", State.PASSED, rows=[{"known": 1}]))
    ask(["sh", "-c", f"echo $$ > {check.folder}/child; sleep 600"], 500, check.folder / "hang.log")

parts.PARTS["clocks"] = parts.Part(hang, Limit(1, 0))
sys.exit(parts.main("clocks", Path(sys.argv[1]), 0.5))
"""


def test_a_part_that_hangs_keeps_what_it_knew(tmp_path):
    check = Check(tmp_path)
    check.save()
    done = subprocess.run(
        [sys.executable, "-c", HANGS, tmp_path], cwd=building.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    outcome = check.kept("clocks")
    assert (outcome.state, outcome.rows) == (State.FAILED, [{"known": 1}])
    assert outcome.reason.startswith("cut off after")
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_parts_that_no_time_is_left_for_are_skipped(tmp_path):
    command = [sys.executable, "-m", "tools.gpu_check", "-o", str(tmp_path / "r"), "--seconds", "1", "--json"]
    done = subprocess.run([*command, "--parts", "clocks"], cwd=building.ROOT, capture_output=True, text=True)
    (part,) = json.loads(done.stdout)["parts"]
    assert (done.returncode, part["state"], part["reason"]) == (3, "skipped", "the 1 s are over")


def test_a_part_whose_process_dies_costs_only_itself(tmp_path):
    check = Check(tmp_path)
    check.keep(Outcome("plan", State.PASSED, reason="apa_gate", rows=[{"name": "x"}]))
    outcome = check.failed("plan", "its process was ended by SIGSEGV", "See its log.")
    assert (outcome.state, outcome.rows) == (State.FAILED, [{"name": "x"}])
    assert outcome.reason == "its process was ended by SIGSEGV; apa_gate"


@pytest.mark.parametrize(
    ("script", "variable", "lacks"),
    [
        ("onnxruntime_headers.py", "ONNXRUNTIME_ROOT", "onnxruntime_c_api.h"),
        ("nvcc.py", "CUDACXX", "not a program"),
    ],
)
def test_what_cannot_be_had_is_named(tmp_path, monkeypatch, script, variable, lacks):
    monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    with pytest.raises(MissingError) as caught:
        device_building.fetch(script)
    assert variable in caught.value.saw and lacks in caught.value.saw
    assert not caught.value.saw.startswith("apa-deploy:") and "toolkit" not in caught.value.do


def test_misuse(tmp_path):
    command = [sys.executable, "-m", "tools.gpu_check", "-o", str(tmp_path / "r.json")]
    done = subprocess.run(command, cwd=building.ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
