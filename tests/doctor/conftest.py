"""Real engines of TensorRT for RTX, one for each compute capability, built once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BUILDER = Path(__file__).with_name("rtx_engines.py")


class Engines:
    """`version` of the builder; `path(name)` of an engine; `names`."""

    def __init__(self, folder, version, names):
        self.folder, self.version, self.names = folder, version, names

    def path(self, name):
        return self.folder / f"{name}.engine"

    def start(self, name):
        return self.path(name).read_bytes()[:64]


@pytest.fixture(scope="session")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    done = subprocess.run([sys.executable, str(BUILDER), str(folder)], capture_output=True, text=True, timeout=300)
    if "No module named 'tensorrt_rtx'" in done.stderr:
        pytest.skip("tensorrt_rtx is not installed: pip install 'apa-deploy[rtx]'")
    assert done.returncode == 0, done.stderr
    return Engines(folder, **json.loads(done.stdout.splitlines()[-1]))
