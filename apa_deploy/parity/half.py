"""Verify an ONNX file in fp16 or bf16 against the float64 module.

Model gate. The limit, on the largest error relative to the largest |reference| of an output:

    max(4 * error of the float64 module that stores its values in the type, 4 * unit roundoff)

Both round the same quantities to the same type and differ in where batch norm is folded and in the order of
sums: two samples of one spread, hence the factor, as for float32. The second term is one layer alone: input,
weight, product and output, each rounded once.

Operator gate. Input and output are of the type, the middle is float32: its limit for float32, plus the one
rounding of y, at most unit roundoff * |y|.

ONNX Runtime's CPU provider computes fp16 nodes in float32, rounding here and there, and has no bf16
convolution. So both types are judged by the graph with every stored value rounded (`graph.emulate`); fp16 by
the file itself as well.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from ..graph.decompose import HALF_TYPES
from ..graph.emulate import emulated
from ..graph.external_weights import read_onnx
from ..graph.isolate import isolated
from ..graph.precision import NUMPY_TYPE, UNIT_ROUNDOFF
from ..graph.values import ranks_and_types
from .blame import first_fault
from .inputs import Feed
from .model_gate import check_outputs
from .operator_gate import LIMIT, Site, check_site, grid_of
from .report import ActivationCheck, Blame, OutputCheck, ParityReport
from .runners import TorchRunner, cpu_session
from .session_runner import SessionRunner
from .storage import stored_in

# Roundings of one layer; and of a few layers, which is what an innocent activation may show.
ONE_LAYER = 4
_NOTICEABLE = 32


def verify_half(
    path: Path,
    module: nn.Module,
    sites: Sequence[Site],
    feeds: Sequence[Feed],
    output_names: Sequence[str],
    precision: str,
    *,
    inputs: str = "seeded",
    library: Path | None = None,
) -> ParityReport:
    """`verify` for a file in `precision`, "fp16" or "bf16"; the same arguments, the same report."""
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        plain = Path(folder) / "emulated.onnx"
        onnx.save_model(
            emulated(read_onnx(path)), plain, save_as_external_data=True, location="weights", size_threshold=1024
        )
        outputs = _model_gate(path, plain, module, sites, feeds, output_names, precision, library)
        activations = check_half_activations(path, sites, precision)
        if library:
            activations += check_half_activations(path, sites, precision, library)
        passed = all(c.passed for c in outputs) and all(c.passed for c in activations)
        return ParityReport(
            passed=passed,
            inputs=inputs,
            runtime=f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider",
            outputs=outputs,
            activations=activations,
            blame=None if passed else _blame(plain, module, sites, feeds, precision),
        )


def _model_gate(
    path: Path,
    plain: Path,
    module: nn.Module,
    sites: Sequence[Site],
    feeds: Sequence[Feed],
    names: Sequence[str],
    precision: str,
    library: Path | None,
) -> list[OutputCheck]:
    """`plain`: the file emulated. Half inputs are fed what the type can hold."""
    stored = stored_in(module, precision, [site.path.split("#")[0] for site in sites])
    double = copy.deepcopy(module).double()
    rounded = f"ONNX Runtime, every value rounded to {precision}"
    candidates = [SessionRunner(plain, rounded, optimise=False, inputs=precision)]
    if precision == "fp16":
        candidates.append(SessionRunner(path, "ONNX Runtime"))
        if library:
            candidates.append(SessionRunner(path, f"ONNX Runtime + {library.name}", library))
    return check_outputs(
        TorchRunner(double, feeds[0], names, torch.float64, "torch float64"),
        TorchRunner(module, feeds[0], names, torch.float32, "torch float32"),
        candidates,
        feeds,
        stored=TorchRunner(stored, feeds[0], names, torch.float64, f"torch float64, stored in {precision}"),
        floor=ONE_LAYER * UNIT_ROUNDOFF[precision],
    )


def check_half_activations(
    path: Path, sites: Sequence[Site], precision: str, library: Path | None = None
) -> list[ActivationCheck]:
    """Every site of the file on a grid that `precision` can hold, in one ONNX Runtime session.

    With `library` its kernels run in the type itself; without, every value of the site is rounded to it.
    """
    if not sites:
        return []
    model = read_onnx(path)
    ranks = ranks_and_types(model)
    small, inputs, outputs = isolated(model, [(site.source, site.target) for site in sites])
    runnable = with_float32_ends(small) if library else emulated(small)
    session = cpu_session(runnable.SerializeToString(), library)
    element = NUMPY_TYPE[precision]
    grids = [grid_of(site, ranks[site.source][0] or 4).astype(element).astype(np.float32) for site in sites]
    values = session.run(outputs, dict(zip(inputs, grids, strict=True)))
    limit = LIMIT + UNIT_ROUNDOFF[precision]
    return [check_site(site, z, y, limit) for site, z, y in zip(sites, grids, values, strict=True)]


def with_float32_ends(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself, its half inputs and outputs behind Casts: numpy has no bf16 to feed."""
    graph, before, after = model.graph, [], []
    for value in (*graph.input, *graph.output):
        element = value.type.tensor_type.elem_type
        if element not in HALF_TYPES:
            continue
        outer, inner = value.name, f"{value.name}/half"
        for node in graph.node:
            node.input[:] = [inner if name == outer else name for name in node.input]
            node.output[:] = [inner if name == outer else name for name in node.output]
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        if value in graph.input:
            before.append(helper.make_node("Cast", [outer], [inner], to=element))
        else:
            after.append(helper.make_node("Cast", [inner], [outer], to=TensorProto.FLOAT))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _blame(
    plain: Path, module: nn.Module, sites: Sequence[Site], feeds: Sequence[Feed], precision: str
) -> Blame | None:
    double, noticeable = copy.deepcopy(module).double(), _NOTICEABLE * UNIT_ROUNDOFF[precision]
    found = (first_fault(plain, double, sites, feed, None, noticeable) for feed in feeds)
    return next((blame for blame in found if blame), None)
