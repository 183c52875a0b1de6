"""The reference of `--shadow`, in its process: an ONNX file or a checkpoint in float64; and the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..runtimes.artifacts import ONNX, artifact_kind

Arrays = dict[str, np.ndarray]
Reference = Callable[[Arrays], Arrays]


@dataclass
class ShadowVerdict:
    """What one comparison found.

    `errors`: by output, the largest error relative to the largest value of the reference. `agreement`: of rows of
    scores, whether the best class is the same. `reason`: why it cannot be judged, or "".
    """

    errors: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, list[bool]] = field(default_factory=dict)
    reason: str = ""


def open_reference(path: str) -> tuple[None, Callable[[Arrays, Arrays, dict[str, float]], ShadowVerdict]]:
    """The comparison with the reference in `path`.

    Raises:
        InputError: the file is none, or does not load.
    """
    run = _onnx(Path(path)) if artifact_kind(Path(path)) is ONNX else _checkpoint(Path(path))
    known: dict[str, bool] = {}

    def compare(inputs: Arrays, outputs: Arrays, limits: dict[str, float]) -> ShadowVerdict:
        truth = _by_name(run(inputs), outputs)
        if isinstance(truth, str):
            return ShadowVerdict(reason=truth)
        if "repeats" not in known:  # once: a reference that throws dice judges nothing
            again = _by_name(run(inputs), outputs)
            known["repeats"] = not isinstance(again, str) and all(
                np.array_equal(truth[name], again[name], equal_nan=truth[name].dtype.kind == "f") for name in truth
            )
        if not known["repeats"]:
            return ShadowVerdict(reason="the reference answers the same request in two ways")
        return judge_answers(truth, outputs, limits)

    return None, compare


def judge_answers(truth: Arrays, served: Arrays, limits: dict[str, float]) -> ShadowVerdict:
    """Compare every output that was served."""
    verdict = ShadowVerdict()
    for name, value in served.items():
        reference = truth[name]
        if reference.shape != value.shape:
            verdict.reason = f"{name}: shape {list(value.shape)}, the reference's is {list(reference.shape)}"
        elif value.dtype.kind not in "fiub":
            verdict.reason = f"{name}: {value.dtype} has no error"
        elif not np.isfinite(reference.astype(np.float64)).all():
            verdict.reason = f"{name}: the reference is not finite"
        elif value.size:
            _judge_one(verdict, name, reference.astype(np.float64), value.astype(np.float64), limits.get(name, 0.0))
    return verdict


def _judge_one(verdict: ShadowVerdict, name: str, reference: np.ndarray, value: np.ndarray, limit: float) -> None:
    scale = max(float(np.abs(reference).max()), 1e-300)
    error = np.abs(value - reference).max() / scale
    verdict.errors[name] = float(error) if np.isfinite(error) else float("inf")
    if reference.ndim == 2 and reference.shape[1] > 1:
        # where the two best lie closer than the limit lets them move, either may come first
        best = np.sort(reference, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > 2 * limit * scale
        same = reference.argmax(1) == value.argmax(1)
        verdict.agreement[name] = same[clear].tolist()


def _by_name(found: Arrays, served: Arrays) -> Arrays | str:
    if set(served) <= set(found):
        return found
    if len(found) != len(served):
        return f"the reference has {len(found)} outputs, the model {len(served)}"
    return dict(zip(served, found.values(), strict=True))


def _onnx(path: Path) -> Reference:
    from ..runtimes.session import Session

    session = Session(path, threads=1, layout=False, kernel="exact")
    return lambda inputs: session.run(_name_inputs(inputs, session.input_names))


def _checkpoint(path: Path) -> Reference:
    import torch

    from ..loading.load import load

    torch.set_num_threads(1)
    network = load(path)
    return lambda inputs: network.outputs(_name_inputs(inputs, [spec.name for spec in network.signature.inputs]))


def _name_inputs(inputs: Arrays, names: Sequence[str]) -> Arrays:
    return inputs if set(inputs) == set(names) else dict(zip(names, inputs.values(), strict=False))
