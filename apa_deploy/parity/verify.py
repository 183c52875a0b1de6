"""Verify an exported ONNX file against the torch module that it was made from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from .blame import first_fault
from .inputs import Feed
from .model_gate import check_outputs
from .operator_gate import Site, check_activations
from .report import Blame, ParityReport
from .runners import TorchRunner, onnxruntime_runner


def verify(
    path: Path,
    module: nn.Module,
    sites: Sequence[Site],
    feeds: Sequence[Feed],
    output_names: Sequence[str],
    *,
    inputs: str = "seeded",
    library: Path | None = None,
) -> ParityReport:
    """Judge the file at `path` by the model gate and the operator gate; name a culprit if one fails.

    Args:
        module: the torch module as it was loaded, float32; it is copied, not changed.
        sites: where its activations stand in the file.
        feeds: inputs by name, float32.
        inputs: what the report says about them.
        library: custom-operator library to judge as well, beside the file alone.
    """
    import onnxruntime

    double = copy.deepcopy(module).double()
    truth = TorchRunner(double, feeds[0], output_names, torch.float64, "torch float64")
    single = TorchRunner(module, feeds[0], output_names, torch.float32, "torch float32")
    candidates = [onnxruntime_runner(path, "ONNX Runtime")]
    if library:
        candidates.append(onnxruntime_runner(path, f"ONNX Runtime + {library.name}", library))
    outputs = check_outputs(truth, single, candidates, feeds)
    activations = check_activations(path, sites)
    if library:
        activations += check_activations(path, sites, library)
    passed = all(c.passed for c in outputs) and all(c.passed for c in activations)
    return ParityReport(
        passed=passed,
        inputs=inputs,
        runtime=f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider",
        outputs=outputs,
        activations=activations,
        blame=None if passed else _blame(path, double, sites, feeds, library),
    )


def _blame(
    path: Path, truth: nn.Module, sites: Sequence[Site], feeds: Sequence[Feed], library: Path | None
) -> Blame | None:
    found = (first_fault(path, truth, sites, feed, library) for feed in feeds)
    return next((blame for blame in found if blame), None)
