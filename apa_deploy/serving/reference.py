"""The reference of `--shadow`, in its process: an ONNX file or a checkpoint in float64; and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

Arrays = dict[str, np.ndarray]
Reference = Callable[[Arrays], dict[str, np.ndarray] | list[np.ndarray]]


@dataclass
class Verdict:
    """What one comparison found.

    `errors`: by output, the largest error relative to the largest value of the reference. `agreement`: of rows of
    scores, whether the best class is the same. `reason`: why it cannot be judged, or "".
    """

    errors: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, list[bool]] = field(default_factory=dict)
    reason: str = ""


def open_reference(path: str) -> tuple[None, Callable[[Arrays, Arrays, dict[str, float]], Verdict]]:
    """The comparison with the reference in `path`.

    Raises:
        InputError: the file is none, or does not load.
    """
    run = _onnx(Path(path)) if path.endswith(".onnx") else _checkpoint(Path(path))
    known: dict[str, bool] = {}

    def compare(inputs: Arrays, outputs: Arrays, limits: dict[str, float]) -> Verdict:
        truth = _by_name(run(inputs), outputs)
        if isinstance(truth, str):
            return Verdict(reason=truth)
        if "repeats" not in known:  # once: a reference that throws dice judges nothing
            again = _by_name(run(inputs), outputs)
            known["repeats"] = not isinstance(again, str) and all(
                np.array_equal(truth[name], again[name], equal_nan=truth[name].dtype.kind == "f") for name in truth
            )
        if not known["repeats"]:
            return Verdict(reason="the reference answers the same request in two ways")
        return judge(truth, outputs, limits)

    return None, compare


def judge(truth: Arrays, served: Arrays, limits: dict[str, float]) -> Verdict:
    """Compare every output that was served."""
    verdict = Verdict()
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


def _judge_one(verdict: Verdict, name: str, reference: np.ndarray, value: np.ndarray, limit: float) -> None:
    scale = max(float(np.abs(reference).max()), 1e-300)
    error = np.abs(value - reference).max() / scale
    verdict.errors[name] = float(error) if np.isfinite(error) else float("inf")
    if reference.ndim == 2 and reference.shape[1] > 1:
        # where the two best lie closer than the limit lets them move, either may come first
        best = np.sort(reference, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > 2 * limit * scale
        same = reference.argmax(1) == value.argmax(1)
        verdict.agreement[name] = same[clear].tolist()


def _by_name(found: dict[str, np.ndarray] | list[np.ndarray], served: Arrays) -> dict[str, np.ndarray] | str:
    if isinstance(found, dict) and set(served) <= set(found):
        return found
    values = list(found.values()) if isinstance(found, dict) else found
    if len(values) != len(served):
        return f"the reference has {len(values)} outputs, the model {len(served)}"
    return dict(zip(served, values, strict=True))


def _onnx(path: Path) -> Reference:
    from ..runtimes.session import Session

    session = Session(path, threads=1, layout=False, kernel="exact")

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        names = session.input_names
        given = inputs if set(inputs) == set(names) else dict(zip(names, inputs.values(), strict=False))
        return session.run(given)

    return run


def _checkpoint(path: Path) -> Reference:
    from ..require import require

    torch = require("torch")
    from ..loading.load import load

    torch.set_num_threads(1)
    module = load(path).module.double().eval()

    def run(inputs: Arrays) -> list[np.ndarray]:
        tensors = [torch.from_numpy(np.array(array)) for array in inputs.values()]
        with torch.inference_mode():
            values: Any = module(*(t.double() if t.is_floating_point() else t for t in tensors))
        values = list(values.values()) if isinstance(values, dict) else values
        found = [values] if isinstance(values, torch.Tensor) else list(values)
        if not all(isinstance(value, torch.Tensor) for value in found):
            raise InputError(f"{path.name}: outputs that are no tensors", "tensors", "Serve the exported names.")
        return [value.numpy() for value in found]

    return run
