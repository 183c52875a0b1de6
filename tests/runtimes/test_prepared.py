"""Prepared models: nothing leaves the blocked layout for an activation, results are right, the cache is safe."""

from __future__ import annotations

import collections
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from blocked_networks import PerChannel, attention, exported, relu_twin, resnet

import apa_deploy
from apa_deploy.graph.layout.blocked import reorders
from apa_deploy.graph.layout.edit import attribute
from apa_deploy.modules import AGLU
from apa_deploy.runtimes.blocking import blocking, optimise_to

NETWORKS = {"plain": resnet, "attention": attention, "per channel": PerChannel}


@pytest.fixture(scope="module", autouse=True)
def _blocks(library):
    if not blocking().kept:
        pytest.skip(f"ONNX Runtime {ort.__version__} has no blocked layout here, or leaves it")


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, tmp_path_factory):
    """The name of a network, the network, and a session on its file."""
    folder = tmp_path_factory.mktemp("layout")
    network = NETWORKS[request.param]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        session = apa_deploy.Session(exported(network, folder / "model.onnx"), threads=1)
    assert session.prepared
    return request.param, network, session


def test_as_many_reorders_as_the_relu_twin(case, tmp_path):
    _, _, session = case
    onnx.save(relu_twin(onnx.load(session.path)), tmp_path / "relu.onnx")
    twin = optimise_to(str(tmp_path / "relu.onnx"), tmp_path / "twin.onnx")
    plain = optimise_to(str(session.path), tmp_path / "plain.onnx", apa_deploy.ort_library())
    ours, theirs, without = (_map_reorders(onnx.load(p)) for p in (session.prepared, twin, plain))
    assert ours <= theirs
    assert without > theirs  # so this test can fail


def _map_reorders(model):
    """Reorder nodes, but those of pooled vectors and of gates with one channel: their memory is the same."""
    pooled = {n.output[0] for n in model.graph.node if n.op_type.startswith("Global")}
    small = [
        n
        for n in model.graph.node
        if n.op_type == "ReorderOutput" and (n.input[0] in pooled or attribute(n, "channels") == 1)
    ]
    return reorders(model) - len(small)


def test_attention_becomes_one_operator_a_block(case):
    name, _, session = case
    found = collections.Counter(node.op_type for node in onnx.load(session.prepared).graph.node)
    blocks = 4 if name == "attention" else 0
    assert found["GatedAGLU"] == blocks and found["Gated"] == found["Mul"] == found["QuickGelu"] == 0
    assert found["ChannelPool"] == blocks / 2
    # Left is the addition of CBAM's two vectors: residuals are inside a convolution or our operator.
    assert found["Add"] == blocks / 4


PEAK = """
import sys
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.enable_cpu_mem_arena = options.enable_mem_pattern = False
options.register_custom_ops_library(sys.argv[2])
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {"input": np.ones((1, 3, 1024, 1024), np.float32)})
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) >> 10)
"""


def test_activations_run_in_place(library, tmp_path, monkeypatch):
    """One map of 64 MB; without the shapes that say so, the activation takes a second one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 1), AGLU(0.5, 1.0), torch.nn.AdaptiveAvgPool2d(1))
    model = onnx.load(apa_deploy.Session(exported(network, tmp_path / "model.onnx"), threads=1).prepared)
    peaks = []
    for name in ("as it is", "without shapes"):
        onnx.save(model, tmp_path / f"{name}.onnx")
        command = [sys.executable, "-c", PEAK, str(tmp_path / f"{name}.onnx"), str(library)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        del model.graph.value_info[:]
    assert peaks[0] < peaks[1] - 32  # half the map: it is there or it is not


@pytest.mark.parametrize("shape", [(2, 3, 64, 96), (1, 3, 33, 47), (3, 3, 16, 16)])
def test_against_float64(case, shape):
    _, network, session = case
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    got = next(iter(session.run({"input": x}).values()))
    with torch.no_grad():
        torch32 = network.float()(torch.from_numpy(x)).numpy()
        truth = network.double()(torch.from_numpy(x).double()).numpy()
    scale = np.abs(truth).max()
    # The same float32 operations in another order: torch's own error, times a small factor for the luck in it,
    # and never asked to be below one unit in the last place of the largest output.
    allowed = 8 * max(np.abs(torch32 - truth).max() / scale, 2.0**-23)
    assert np.abs(got - truth).max() / scale <= allowed
