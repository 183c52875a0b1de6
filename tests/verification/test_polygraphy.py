"""Our outputs and inputs are Polygraphy's: its own command reads them and agrees."""

import subprocess
import sys
from pathlib import Path

import pytest

from apa_deploy.cli.verify import main
from tests.verification.conftest import FACTORY

pytestmark = pytest.mark.xdist_group("verification")


def polygraphy(*arguments):
    program = Path(sys.executable).with_name("polygraphy")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def saved(exports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    given = [
        str(exports / "model.pth"),
        str(exports / "plain.onnx"),
        "--model",
        FACTORY,
        "--input-shape",
        "3x16x16",
    ]
    files = ["--save-outputs", str(folder / "outputs.json"), "--save-inputs", str(folder / "inputs.json")]
    assert main([*given, *files]) == 0
    return folder


def test_polygraphy_run_reads_them(exports, saved):
    """Its own run of the file on our inputs, against everything that we recorded."""
    data = ["--load-inputs", saved / "inputs.json", "--load-outputs", saved / "outputs.json"]
    done = polygraphy("run", exports / "plain.onnx", "--onnxrt", *data, "--atol", "1e-6", "--rtol", "1e-5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plain.onnx: ONNX Runtime" in done.stdout and "float64" in done.stdout


def test_polygraphy_run_disagrees_where_it_should(exports, saved):
    data = ["--load-inputs", saved / "inputs.json", "--load-outputs", saved / "outputs.json"]
    done = polygraphy("run", exports / "half.onnx", "--onnxrt", *data, "--atol", "1e-6", "--rtol", "1e-6")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
