"""What a model learned: every activation, its regime, and what half precision would do to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from .errors import InputError
from .graph.node import all_activations, read_parameters
from .graph.read import read_graph
from .graph.recognise import recognise
from .graph.sites import METADATA, ActivationSite, read_recorded
from .loading.load import load
from .loading.onnx_file import load_onnx
from .maths import KINDS, REFERENCE, UNIT, Parameters, effective_parameters
from .modules import MODULES
from .progress import notice
from .runtimes.artifacts import ONNX, artifact_kind

# The span in which the activations of trained networks work; beyond it they are flat or linear.
SPAN = 12.0
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Z = np.linspace(-SPAN, SPAN, 4097)
_Z = torch.from_numpy(Z)


def inspect_file(path: Path, **loading: Any) -> list[ActivationSite]:
    """The activations of a checkpoint or an ONNX file: `com.apa` nodes, our metadata, or what is recognised.

    Args:
        loading: further arguments of `load`, e.g. `model="package.module:factory"`; of checkpoints alone.

    Raises:
        InputError: the file cannot be read as either.
    """
    if artifact_kind(path) is ONNX:
        usual = (("weights", "model"), ("trust_pickle", True))
        given = [f"--{k.replace('_', '-')}" for k, v in loading.items() if v and (k, v) not in usual]
        if given:
            saw = f"{', '.join(given)} with an .onnx file"
            raise InputError(saw, "a checkpoint", "Leave it out: the graph says it all.")
        return _of_onnx(path)
    network = load(path, **loading)
    for text in network.metadata.notices:
        notice(text)
    return list(network.learned)


def _of_onnx(path: Path) -> list[ActivationSite]:
    model = read_graph(path)
    return _of_graph(model) or _of_metadata(model) or _of_graph(_read_folded(path))


def _of_graph(model: onnx.ModelProto) -> list[ActivationSite]:
    return [ActivationSite(n.name, n.op_type, read_parameters(n)) for n in all_activations(model.graph)]


def _read_folded(path: Path) -> onnx.ModelProto:
    model = load_onnx(path)
    recognise(model)
    return model


def _of_metadata(model: onnx.ModelProto) -> list[ActivationSite]:
    """A decomposed file of ours: its activations are in the metadata."""
    entries = read_recorded(model, METADATA, dict).items()
    try:
        if not all(e["kind"] in KINDS and isinstance(e["floor"], str) for _, e in entries):
            raise ValueError("of another kind")
        return [
            ActivationSite(path, e["kind"], effective_parameters(e["lambda"], e["kappa"]), e["floor"])
            for path, e in entries
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        saw = f"metadata apa.activations that is damaged ({error})"
        raise InputError(saw, "what apa-export writes", "Export the model again.") from error


@cache
def half_errors(kind: str, parameters: Parameters) -> dict[str, float]:
    """Largest absolute error for z within +-12: of the usual formula computed in the half type throughout
    (NaN where it gives any), and of ours, which computes in float32 and rounds once."""
    errors = {}
    for name in ("fp16", "bf16"):
        dtype = _TYPES[name]
        errors[f"{name} throughout"] = _worst(kind, parameters, dtype, _throughout)
        errors[f"{name} here"] = _worst(kind, parameters, dtype, _here)
    return errors


Evaluate = Callable[[str, Tensor, float, float], Tensor]


def _worst(kind: str, parameters: Parameters, dtype: torch.dtype, evaluate: Evaluate) -> float:
    """Over the channels: NaN if any is."""
    z = _Z.to(dtype)
    errors = []
    for lambda_, kappa in parameters.pairs:
        wanted = REFERENCE[kind](z.double().numpy(), lambda_, kappa)
        errors.append(float(np.abs(evaluate(kind, z, lambda_, kappa).double().numpy() - wanted).max()))
    return float(np.max(errors))


def predict_error(kind: str, parameters: Parameters, z: np.ndarray, precision: str) -> float:
    """Largest absolute error of our form on the numbers `z`, which the type can hold: float32 inside, rounded once.

    Args:
        z: any shape whose axis `parameters.axis` fits the channels.
        precision: "fp32", "fp16" or "bf16".
    """
    module, x = MODULES[kind](parameters.lambda_, parameters.kappa, parameters.axis), torch.from_numpy(z)
    with torch.inference_mode():
        return float((module(x.to(_TYPES[precision])).double() - module(x.double())).abs().max())


def _here(kind: str, z: Tensor, lambda_: float, kappa: float) -> Tensor:
    return MODULES[kind](lambda_, kappa)(z)


def _throughout(kind: str, z: Tensor, lambda_: float, kappa: float) -> Tensor:
    """exp((1/lambda) * -softplus(ln(lambda) - kappa*z)), every step rounded to the half type."""
    lam, k = torch.tensor(lambda_, dtype=z.dtype), torch.tensor(kappa, dtype=z.dtype)
    gate = torch.exp((1 / lam) * -torch.nn.functional.softplus(lam.log() - k * z))
    return z * gate if kind == UNIT else gate
