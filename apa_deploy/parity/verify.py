"""Verify an exported ONNX file, in any precision, against the network that it was made from.

ONNX Runtime's CPU provider computes fp16 nodes in float32, rounding here and there, and has no bf16 convolution.
So both types are judged by the graph with every stored value rounded (`graph.emulate`); fp16 by the file as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from polygraphy.backend.base import BaseRunner

from ..graph.emulate import emulate_halves
from ..graph.read import read_graph
from ..graph.sites import ActivationSite
from ..network import Network
from ..records.parity import ParityReport, refuse_to_judge
from ..tensors.signature import Feed
from .blame import find_culprit
from .model_gate import check_outputs, explain_no_verdict
from .operator_gate import check_activations
from .session_runner import SessionRunner


def verify(
    path: Path,
    network: Network,
    sites: Sequence[ActivationSite],
    feeds: Sequence[Feed],
    *,
    precision: str = "fp32",
    inputs: str = "seeded",
    library: Path | None = None,
    output_names: Sequence[str] | None = None,
) -> ParityReport:
    """Judge the file at `path` by the model gate and the operator gate; name a culprit if one fails.

    Args:
        network: as it was loaded, before anything was replaced in it.
        sites: where its activations stand in the file.
        feeds: inputs by name.
        precision: "fp32", "fp16" or "bf16": what the file computes in.
        inputs: what the report says about `feeds`.
        library: custom-operator library to judge as well, beside the file alone.
        output_names: those to judge; default: all of the network's.
    """
    import onnxruntime

    runtime = f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider"
    if parts := network.find_randomness(feeds[0]):
        return refuse_to_judge(f"the network is not deterministic: {', '.join(parts)}", inputs, runtime)
    libraries = [None, library] if library else [None]
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        plain = path
        candidates: list[BaseRunner] = []
        if precision != "fp32":
            plain = Path(folder) / "emulated.onnx"
            rounded = emulate_halves(read_graph(path, weights=True))
            onnx.save_model(rounded, plain, save_as_external_data=True, location="weights", size_threshold=1024)
            name = f"ONNX Runtime, every value rounded to {precision}"
            candidates.append(SessionRunner(plain, name, optimise=False, inputs=precision))
        if precision != "bf16":
            for one in libraries:
                name = f"ONNX Runtime + {one.name}" if one else "ONNX Runtime"
                candidates.append(SessionRunner(path, name, one))
        outputs = check_outputs(network, candidates, feeds, precision, output_names)
        model = read_graph(path, weights=True)
        activations = [c for one in libraries for c in check_activations(model, sites, network, one)]
        reason = explain_no_verdict(outputs, network.half)
        passed = not reason and all(c.passed for c in outputs) and all(c.passed for c in activations)
        own = library if precision == "fp32" else None
        limits = network.half if network.half and precision == "fp32" else precision
        look = not passed and not reason and sites
        return ParityReport(
            passed=passed,
            verdict="cannot be judged" if reason else "passed" if passed else "failed",
            reason=reason,
            inputs=inputs,
            runtime=runtime,
            outputs=outputs,
            activations=activations,
            blame=find_culprit(plain, network, sites, feeds, limits, own) if look else None,
        )
