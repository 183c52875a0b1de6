"""Our outputs and inputs are Polygraphy's: its own command reads them and agrees."""

import subprocess
import sys
from pathlib import Path


def polygraphy(*arguments):
    program = Path(sys.executable).with_name("polygraphy")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def test_polygraphy_run_reads_them(exports, told):
    """Its own run of the file on our inputs, against everything that we recorded."""
    data = ["--load-inputs", told.folder / "inputs.json", "--load-outputs", told.folder / "outputs.json"]
    done = polygraphy("run", exports / "plain.onnx", "--onnxrt", *data, "--atol", "1e-6", "--rtol", "1e-5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plain.onnx: ONNX Runtime" in done.stdout and "float64" in done.stdout


def test_polygraphy_run_disagrees_where_it_should(exports, told):
    data = ["--load-inputs", told.folder / "inputs.json", "--load-outputs", told.folder / "outputs.json"]
    done = polygraphy("run", exports / "half.onnx", "--onnxrt", *data, "--atol", "1e-6", "--rtol", "1e-6")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
