"""Every block of docs/nvidia-tools.md runs, in its order; those for TensorRT beside the stand-in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from apa_exporters.onnx.export import OnnxOptions, export_onnx

from apa_deploy.loading.torch_network import TorchNetwork
from apa_deploy.native import LibraryError, ort_library, trt_plugin_library
from apa_deploy.network import Metadata
from apa_deploy.tensors.signature import image_signature
from tests.networks import tiny_net

PAGE = Path(__file__).parents[2] / "docs/nvidia-tools.md"
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
NEEDS_GPU = "# needs TensorRT and a GPU\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for library in (ort_library, trt_plugin_library):
        try:
            library()
        except LibraryError as error:
            pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("page")
    model = TorchNetwork(tiny_net(), image_signature((3, 32, 32)), Metadata("tiny"))
    for format, name in (("onnx", "model.onnx"), ("onnx-custom", "model.custom.onnx")):
        export_onnx(model, folder / name, OnnxOptions(format=format, verify=False))
    return folder


def _ran(command, folder, **variables):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": programs} | variables
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_here(folder):
    """One process for all Python blocks before the command line's, and one for those behind."""
    scripts = [(language, text) for language, text in BLOCKS if not text.startswith(NEEDS_GPU)]
    assert [language for language, _ in scripts] == ["python", "python", "python", "bash", "python"]
    _ran([sys.executable, "-c", "\n".join(text for _, text in scripts[:3])], folder)
    _ran(["bash", "-euc", scripts[3][1]], folder)
    _ran([sys.executable, "-c", scripts[4][1]], folder)
    for name in ("folded.onnx", "sanitized.onnx", "fused.onnx"):
        model = onnx.load(folder / name)
        kinds = sorted(node.op_type for node in model.graph.node if node.domain == "com.apa")
        assert kinds == ["AGLU", "AGLU", "APA"], name
        assert {function.name for function in model.functions} >= {"AGLU", "APA"}, name
    names = [node.name for node in onnx.load(folder / "fused.onnx").graph.node]
    assert not [name for name in names if "/" in name]


def test_with_tensorrt(folder, machine):
    (text,) = [text for language, text in BLOCKS if language == "python" and text.startswith(NEEDS_GPU)]
    given = "import numpy as np\nx = np.zeros((2, 3, 32, 32), np.float32)\n"
    libraries = f"{machine.folder}{os.pathsep}{machine.with_runtime()}"  # Polygraphy's runner wants CUDA's runtime
    variables = machine.variables(11, LD_LIBRARY_PATH=libraries)
    assert _ran([sys.executable, "-c", given + text], folder, **variables).endswith("(2, 5)\n")
