"""The wheel: what it holds and needs, and that it works alone, outside the checkout, and with each extra alone."""

import json
import re
import sys
import tomllib
import zipfile

import pytest
from elftools.elf.elffile import ELFFile

import apa_deploy
from apa_deploy.native import LIBRARIES
from tests.wheel.conftest import ROOT, Installed, python_of, run

# an install waits for the network
pytestmark = [pytest.mark.timeout(1500), pytest.mark.slow]

DIGITS = ROOT / "examples" / "digits" / "digits.pth"
# Red Hat 9, Debian 12 and Ubuntu 22.04 have it or a later one: dlopen and pthread_create are libc's own from
# here on, and a library that is linked on a later system asks for that version of them.
GLIBC = (2, 34)
NEWEST = "3.13"
PACE = ("--launches", "1", "--rounds", "2", "--duration", "0.01", "--warmup", "1", "--no-activations")


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_library_needs_no_later_glibc(library):
    if not library.is_file():
        pytest.skip(f"{library.name} is not built here")
    with library.open("rb") as file:
        needs = ELFFile(file).get_section_by_name(".gnu.version_r").iter_versions()
        names = {version.name for _, versions in needs for version in versions}
    versions = [tuple(map(int, name[6:].split("."))) for name in names if name.startswith("GLIBC_")]
    assert versions and max(versions) <= GLIBC
    assert not [name for name in names if name.startswith(("GLIBCXX", "CXXABI"))]  # the C++ library is inside


def test_what_it_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "apa_deploy",
        "apa_exporters",
        f"apa_deploy-{apa_deploy.__version__}.dist-info",
    }
    built = {f"apa_deploy/lib/{path.name}" for path in LIBRARIES if path.is_file()}
    assert built <= set(names)
    assert {"apa_deploy/py.typed", "apa_exporters/py.typed"} <= set(names)
    shown = " ".join(run(sys.executable, "-m", "auditwheel", "show", wheel).split())
    policy = re.search(r'consistent with the following platform tag: "manylinux_(\d+)_(\d+)_', shown)
    assert policy and tuple(map(int, policy.groups())) <= GLIBC, shown


def test_version_has_one_source():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


def check_main_job(installed):
    """Export in every format that needs no extra, verify, inspect, bench, ask the doctor."""

    def good(verb, *arguments):
        code, stdout, stderr = installed.run(verb, *arguments)
        assert code == 0, (verb, arguments, stdout, stderr)
        return stdout

    plain, custom = "digits.onnx", "custom.onnx"
    good("apa-export", DIGITS, "-o", plain)
    good("apa-export", plain, "--format", "onnx-custom", "-o", custom)  # which needs no second trace
    good("apa-verify", DIGITS, plain, custom, "--other-weights")  # it knows digits.onnx as its source
    assert len(json.loads(good("apa-inspect", custom, "--json"))) == 46
    assert len(json.loads(good("apa-bench", plain, custom, *PACE, "--json"))["series"]) == 2
    good("apa-doctor", custom)
    assert good("apa-export", "--version").split() == ["apa-export", apa_deploy.__version__]
    document = json.loads(good("apa-export", "--version", "--json"))
    assert (document["version"], document["commit"]) == (apa_deploy.__version__, None)
    for library in LIBRARIES:
        path = document["libraries"][library.name]
        assert path is None or path.startswith(str(installed.folder))
        assert bool(path) or not library.is_file()


@pytest.fixture(scope="session")
def plain(wheel, tmp_path_factory):
    """A plain install that has done the main job: digits.onnx is there."""
    installed = Installed(sys.executable, wheel, tmp_path_factory.mktemp("plain"))
    check_main_job(installed)
    return installed


def test_plain_install_does_the_main_job(plain):
    code, _, stderr = plain.run("apa-serve", "digits.onnx")
    assert (code, "'apa-deploy[serve]'" in stderr) == (3, True)


@pytest.mark.long
def test_newest_python(wheel, tmp_path):
    python = python_of(NEWEST)
    if python is None:
        pytest.skip(f"no Python {NEWEST} here")
    check_main_job(Installed(python, wheel, tmp_path))


SERVE = """
import socket, subprocess, sys, time
import numpy as np, tritonclient.http
with socket.socket() as free: free.bind(("127.0.0.1", 0)); port = str(free.getsockname()[1])
server = subprocess.Popen([sys.executable, "-m", "apa_deploy.cli.serve", "digits.onnx", "--http-port", port,
                           "--grpc-port", "0", "--metrics-port", "0"])
try:
    client = tritonclient.http.InferenceServerClient("127.0.0.1:" + port)
    for _ in range(600):
        try:
            if client.is_server_ready(): break
        except OSError: pass
        time.sleep(0.1)
    tensor = tritonclient.http.InferInput("input", [1, 3, 32, 32], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 3, 32, 32), np.float32))
    assert client.infer("digits", [tensor]).as_numpy("logits").shape == (1, 10)
finally:
    server.terminate(); server.wait(60)
"""
RAY = """
from apa_deploy.serving.ray_app import RayOptions, application
application(RayOptions(source="digits.onnx"))
"""
PICTURES = """
from pathlib import Path
from PIL import Image
Path("pictures").mkdir(exist_ok=True)
for i in range(2): Image.new("RGB", (40, 40), (i * 90, 20, 200)).save(f"pictures/{i}.png")
"""
VERIFY = ("apa-verify", DIGITS, "digits.onnx")
EXTRAS = {
    "report": [("apa-inspect", "digits.onnx", "--report", "extra.html")],
    "serve": [
        ("apa-export", "digits.onnx", "--format", "triton", "-o", "repository", "--force"),
        ("python", "-c", SERVE),
    ],
    "images": [("python", "-c", PICTURES), (*VERIFY, "--inputs", "pictures", "--normalise", "cifar")],
    "openvino": [(*VERIFY, "--runner", "openvino")],
    "rtx": [
        (
            "apa-export",
            DIGITS,
            "--format",
            "trt-rtx",
            "--compute-capability",
            "8.6",
            "-o",
            "extra.engine",
            "--force",
        )
    ],
    "ray": [("python", "-c", RAY)],
}
MINUTES = ("rtx", "ray")


@pytest.mark.parametrize("extra", [pytest.param(e, marks=pytest.mark.long if e in MINUTES else ()) for e in EXTRAS])
@pytest.mark.parametrize("by", ["links", pytest.param("pip", marks=pytest.mark.long)])
def test_extra_does_its_job_alone(extra, by, plain):
    overlay = plain.overlay(extra, by)
    for program, *arguments in EXTRAS[extra]:
        code, stdout, stderr = plain.run(program, *arguments, overlay=overlay)
        assert code == 0, stdout + stderr


def test_no_extra_is_left_out():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == {*EXTRAS, "gpu", "dev"}  # gpu wants one
