"""examples/: every program runs from another folder and prints what it should; they share one trained network."""

import csv
import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# what stands in its last line
PROGRAMS = {
    "own_network.py": r"own.onnx labels (9\d|100)% of 100 unseen digits",
    "audio.py": r"2 s: \[[\d. ]+\]",
    "token_mixer.py": r"padding changes the logits by (0\.0e\+00|\de-0[6-9])",
    "detector.py": r"class \d, score 0\.\d\d, box \[.*\]",
    "int8.py": r"8 bits: (9\d|100)% of 100 unseen digits, [\d,]+ bytes",
    "serving.py": r"the server labels (9\d|100)% of 20 digits",
    "batch_folder.py": r"labels.csv: 445 pictures",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(EXAMPLES)
        yield folder
        for path in EXAMPLES.glob("*.py"):
            sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program, folder, monkeypatch, capsys):
    if program == "serving.py":
        pytest.importorskip("uvicorn")
    monkeypatch.setattr(sys, "argv", [program])
    runpy.run_path(str(EXAMPLES / program), run_name="__main__")
    assert re.fullmatch(PROGRAMS[program], capsys.readouterr().out.splitlines()[-1])


def test_labels_of_the_folder_are_right(folder):
    if not (folder / "labels.csv").exists():
        pytest.skip("batch_folder.py has not run")
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert len(rows) == 445
    assert sum(row["file"].split("_")[1] == f"{row['label']}.png" for row in rows) > 400


def test_edge_device_needs_onnx_runtime_alone(folder):
    """A file that changed on its way is not run."""
    from own_network import exported

    exported(name="edge.onnx")
    script = f"""
import runpy, sys
sys.argv = ["edge_device.py", "edge.onnx"]
runpy.run_path({str(EXAMPLES / "edge_device.py")!r}, run_name="__main__")
assert not {{"torch", "apa_deploy", "onnx"}} & set(sys.modules)
"""

    def run():
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder)

    done = run()
    assert done.returncode == 0 and "answers (1, 10)" in done.stdout, done.stderr
    data = bytearray((folder / "edge.onnx").read_bytes())
    data[-100] ^= 1
    (folder / "edge.onnx").write_bytes(data)
    done = run()
    assert done.returncode == 1 and "copy it again" in done.stderr


# The tests of examples/ci, on the network that is here already.
_spec = importlib.util.spec_from_file_location("test_deployed", EXAMPLES / "ci" / "test_deployed.py")
_deployed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_deployed)
test_the_file_is_the_trained_network = _deployed.test_the_file_is_the_trained_network
test_the_deployed_file_is_accurate = _deployed.test_the_deployed_file_is_accurate


@pytest.fixture(scope="module")
def files(folder):
    from own_network import exported

    path = exported(name="ci.onnx")
    return folder / "own.pth", folder / path


@pytest.mark.long
def test_ci_alone(tmp_path):
    """As its first line says, in a process of its own."""
    command = [sys.executable, "-m", "pytest", EXAMPLES / "ci", "--rootdir", EXAMPLES / "ci", "-c", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


def test_every_example_is_run_and_listed():
    programs = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    ours = {*PROGRAMS, "edge_device.py", "ci/test_deployed.py"}
    assert programs == {*ours, "digits/demo.py", "digits/train.py", "digits/data.py"}
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"]({program})" in page for program in programs)
