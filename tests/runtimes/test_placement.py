"""apa_deploy.runtimes.placement: the judgement as a table; and what ONNX Runtime itself says, twice the same."""

import json

import canonical_models as models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters
from apa_deploy.native import ort_library
from apa_deploy.runtimes import onnxruntime as runtime
from apa_deploy.runtimes.ort_session import session_options
from apa_deploy.runtimes.placement import (
    RECORD_ENTRY,
    PlacedNode,
    judge_placement,
    placed_by_profile,
    placed_by_session,
)
from apa_deploy.runtimes.providers import CPU, CUDA, TENSORRT
from apa_deploy.runtimes.session import Session

CONV, ACTIVATION = "Conv", "AGLU"
CASES = [
    # what, the provider wanted first, (operator, provider) of each node, activations of the model, what is said
    ("fused on CUDA", CUDA, [(CONV, CUDA), (ACTIVATION, CUDA), ("APA", CUDA)], 2,
     f"2 fused on {CUDA} (1 AGLU, 1 APA)"),
    ("bodies on CUDA", CUDA, [(CONV, CUDA), ("Exp", CUDA)], 1, "1 as function body"),
    ("some of another type", CUDA, [(ACTIVATION, CUDA), ("Exp", CUDA)], 3,
     f"1 fused on {CUDA} (1 AGLU), 2 as function bodies"),
    ("copied to the CPU and back", CUDA,
     [(CONV, CUDA), ("MemcpyToHost", CUDA), (ACTIVATION, CPU), ("MemcpyFromHost", CUDA)], 1,
     f"1 fused on {CPU} (1 AGLU); 2 copies between CPU and GPU"),
    ("left to the CPU", CUDA, [(ACTIVATION, CUDA), ("NonZero", CPU)], 1,
     f"1 fused on {CUDA} (1 AGLU); {CUDA} leaves 1 other node to {CPU}"),
    ("CUDA takes nothing", CUDA, [(CONV, CPU), ("Exp", CPU)], 1,
     f"1 as function body; {CUDA} leaves 2 other nodes to {CPU}"),
    ("in TensorRT's engine", TENSORRT, [("TRTKernel_graph_1", TENSORRT)], 4,
     "4 in TensorRT engines or as function bodies"),
    ("TensorRT says what it took", TENSORRT, [(CONV, TENSORRT), (ACTIVATION, TENSORRT), ("NonZero", CUDA)], 1,
     f"1 fused on {TENSORRT} (1 AGLU); {TENSORRT} leaves 1 other node to {CUDA}"),
    ("TensorRT leaves one to CUDA", TENSORRT, [("TRTKernel_graph_1", TENSORRT), (ACTIVATION, CUDA)], 2,
     f"1 fused on {CUDA} (1 AGLU), 1 in TensorRT engines or as function body"),
    ("TensorRT takes nothing", TENSORRT, [(ACTIVATION, CUDA), (CONV, CUDA), ("NonZero", CPU)], 1,
     f"1 fused on {CUDA} (1 AGLU); {TENSORRT} leaves 1 other node to {CPU}; "
     f"{TENSORRT} leaves 1 other node to {CUDA}"),
    ("the CPU alone", CPU, [(CONV, CPU), ("GatedAGLU", CPU), ("QLinearAGLU", CPU), ("Gated", CPU)], 2,
     f"2 fused on {CPU} (1 GatedAGLU, 1 QLinearAGLU)"),
    ("none", CPU, [(CONV, CPU)], 0, "no com.apa node, so none of our kernels"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "nodes", "activations", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_judgement(wanted, nodes, activations, said):
    assert str(judge_placement([PlacedNode(*node) for node in nodes], activations, wanted)) == said


@pytest.mark.parametrize("says_it", [True, False])
def test_a_session_finds_it_in_every_version(library, tmp_path, monkeypatch, says_it):
    path = tmp_path / "model.onnx"
    onnx.save(with_functions(models.one_node(Parameters((0.5,), (1.0,)))), path)
    if not says_it:  # as before 1.24
        monkeypatch.delattr(ort.InferenceSession.__base__, "get_provider_graph_assignment_info")
    with Session(path, threads=1) as session:
        feed = {"x": np.zeros(3, np.float32)}
        assert str(session.find_placement(feed)) == f"1 fused on {CPU} (1 AGLU)"
        assert (session.find_placement() is not None) is says_it


@pytest.mark.parametrize(
    ("says_it", "fused", "said"),
    [
        (True, True, f"3 fused on {CPU} (3 AGLU)"),
        (True, False, "3 as function bodies"),
        (False, True, f"2 fused on {CPU} (2 AGLU)"),  # a profile shows the branch that ran alone
        (False, False, "1 as function body"),
    ],
)
def test_activations_in_branches_count(library, tmp_path, monkeypatch, says_it, fused, said):
    path, parameters = tmp_path / "model.onnx", Parameters((0.5,), (1.0,))

    def make_branch(name):
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])
        return helper.make_graph([make_node("AGLU", "a", name, parameters)], name, [], [result])

    model = models.one_node(parameters)
    model.graph.node[0].output[0] = "a"
    branches = {"then_branch": make_branch("yes"), "else_branch": make_branch("no")}
    model.graph.node.append(helper.make_node("If", ["c"], [model.graph.output[0].name], **branches))
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    onnx.save(with_functions(model), path)
    if not says_it:
        monkeypatch.delattr(ort.InferenceSession.__base__, "get_provider_graph_assignment_info")
    if not fused:
        monkeypatch.setattr(runtime, "register_operators", lambda *_: False)
    with Session(path, threads=1) as session:
        feed = {"x": np.zeros(3, np.float32), "c": np.array(True)}
        assert str(session.find_placement(feed)) == said


@pytest.mark.parametrize("fused", [True, False])
def test_a_session_and_its_profile_say_the_same(library, tmp_path, fused):
    path = tmp_path / "model.onnx"
    onnx.save(with_functions(models.one_node(Parameters((0.5,), (1.0,)))), path)
    options = session_options(1)
    options.add_session_config_entry(*RECORD_ENTRY)
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    if fused:
        options.register_custom_ops_library(str(ort_library()))
    session = ort.InferenceSession(path, options, providers=[CPU])
    session.run(None, {"x": np.zeros(3, np.float32)})
    session.run(None, {"x": np.zeros(3, np.float32)})
    with open(session.end_profiling()) as profile:  # noqa: PTH123 - ONNX Runtime's own name for it
        seen = placed_by_profile(json.load(profile))
    assert sorted(seen, key=str) == sorted(placed_by_session(session), key=str)
    assert str(judge_placement(seen, 1)) == (f"1 fused on {CPU} (1 AGLU)" if fused else "1 as function body")
