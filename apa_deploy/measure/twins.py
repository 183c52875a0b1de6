"""Twins with a plain activation: subjects to measure beside those that have learned ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from ..errors import InputError
from ..graph.read import read_graph
from ..graph.twin import twin
from ..runtimes.artifacts import CHECKPOINT, ONNX, artifact_kind
from .subject import Subject

_LARGE = 1 << 20  # bytes from which a weight lies beside the graph: a file of protobuf ends at 2 GB


def with_twins(
    subjects: Sequence[Subject], plain: str, folder: Path
) -> tuple[list[Subject], dict[str, str], dict[str, str]]:
    """The twins of `subjects`, written to `folder`; whose twin is which; who has none, and why."""
    twins: dict[tuple[str, str], Subject] = {}
    beside: dict[str, str] = {}
    refused: dict[str, str] = {}
    for subject in subjects:
        try:
            made, content = _twin(subject, plain, folder)
        except InputError as error:
            refused[subject.name] = f"no {plain} twin: {error}"
            continue
        # onnx and onnx-custom of one network have the same twin: measure it once
        same = twins.setdefault((content, subject.runtime), made)
        beside[subject.name] = same.name
    return list(twins.values()), beside, refused


def _twin(subject: Subject, plain: str, folder: Path) -> tuple[Subject, str]:
    """The twin, and what is equal for twins that are the same."""
    path, name = Path(subject.path), f"{plain} twin of {subject.name}"
    kind = artifact_kind(path)
    if kind is CHECKPOINT:
        return replace(subject, name=name, sha256="", plain=plain), subject.path
    if kind is not ONNX:
        saw = f"{path.name}, of kind {kind.name}"
        raise InputError(saw, "a graph to rewrite", "Give the .onnx that it was built from.")
    model = twin(read_graph(path, weights=True), plain)
    content = _content(model.graph)
    target = folder / f"{content[:16]}.onnx"
    if not target.exists():
        where = f"{target.name}.data"
        onnx.save_model(model, target, save_as_external_data=True, location=where, size_threshold=_LARGE)
    return replace(subject, name=name, sha256="", path=str(target)), content


def with_plain(module: Any, plain: str) -> Any:
    """`module` itself with ReLU or SiLU for each learned unit and a sigmoid for each gate."""
    from torch import nn

    from ..maths import UNIT
    from ..replace import replace_activations

    unit = {"relu": nn.ReLU, "silu": nn.SiLU}[plain]
    for found in replace_activations(module).found:
        module.set_submodule(found.path, unit() if found.kind == UNIT else nn.Sigmoid())
    return module


def _content(graph: onnx.GraphProto) -> str:
    """A hash of the operators and the weights."""
    digest = hashlib.sha256()
    for part in (*graph.node, *sorted(graph.initializer, key=lambda tensor: tensor.name)):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()
