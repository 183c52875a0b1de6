"""apa_deploy.runtimes.placement: the judgement as a table; and what ONNX Runtime itself says, twice the same."""

import json

import canonical_models as models
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from apa_deploy.graph.functions import with_functions
from apa_deploy.maths import Parameters
from apa_deploy.native import ort_library
from apa_deploy.runtimes.ort_session import session_options
from apa_deploy.runtimes.placement import (
    RECORD_ENTRY,
    PlacedNode,
    judge_placement,
    placed_by_profile,
    placed_by_session,
)
from apa_deploy.runtimes.providers import CPU, CUDA, TENSORRT

CONV, ACTIVATION = "Conv", "AGLU"
CASES = [
    # what, (operator, provider) of each node, activations of the model, what is said
    ("fused on CUDA", [(CONV, CUDA), (ACTIVATION, CUDA), ("APA", CUDA)], 2, f"2 fused on {CUDA}"),
    ("bodies on CUDA", [(CONV, CUDA), ("Exp", CUDA)], 1, "1 as function body"),
    ("some of another type", [(ACTIVATION, CUDA), ("Exp", CUDA)], 3, f"1 fused on {CUDA}, 2 as function bodies"),
    ("copied to the CPU and back",
     [(CONV, CUDA), ("MemcpyToHost", CUDA), (ACTIVATION, CPU), ("MemcpyFromHost", CUDA)], 1,
     f"1 fused on {CPU}, 2 copies between CPU and GPU"),
    ("left to the CPU", [(ACTIVATION, CUDA), ("NonZero", CPU)], 1, f"1 fused on {CUDA}, 1 other node on the CPU"),
    ("in TensorRT's engine", [("TRTKernel_graph_1", TENSORRT)], 4, "4 in TensorRT engines or as function bodies"),
    ("TensorRT leaves one to CUDA", [("TRTKernel_graph_1", TENSORRT), (ACTIVATION, CUDA)], 2,
     f"1 fused on {CUDA}, 1 in TensorRT engines or as function body"),
    ("the CPU alone", [(CONV, CPU), ("GatedAGLU", CPU), ("QLinearAGLU", CPU), ("Gated", CPU)], 2,
     f"2 fused on {CPU}"),
    ("none", [(CONV, CPU)], 0, "no activation"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "activations", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_judgement(nodes, activations, said):
    assert str(judge_placement([PlacedNode(*node) for node in nodes], activations)) == said


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
    assert str(judge_placement(seen, 1)) == (f"1 fused on {CPU}" if fused else "1 as function body")
