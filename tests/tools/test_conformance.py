"""onnx's own cases: as many pass as docs/conformance.md says, and each that does not has a reason."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_fewer_cases_pass_than_the_page_says():
    command = [sys.executable, "tools/conformance.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
