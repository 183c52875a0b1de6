"""Golden inputs and outputs: what float64 says, and how far an engine's outputs are from it.

The limits were derived where the model was exported (apa_deploy/parity/model_gate.py) and are in the recipe; the
fields of a check are those of its `OutputCheck`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .recipe import Detections, Limit
from .rows import Rows, align_rows, mean_precision

Arrays = dict[str, np.ndarray]


def save(path: Path, sets: Sequence[Arrays]) -> None:
    """Write sets of arrays by name as "i/name"."""
    path.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {f"{i}/{name}": array for i, each in enumerate(sets) for name, array in each.items()}
    np.savez(path, **arrays)


def load(path: Path) -> list[Arrays]:
    """What `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    count = 1 + max(int(key.split("/")[0]) for key in arrays)
    return [{k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(f"{i}/")} for i in range(count)]


def check(
    runner: str,
    truth: Sequence[Arrays],
    found: Sequence[Arrays],
    limits: dict[str, Limit],
    detections: Detections | None = None,
) -> list[Any]:
    """One check an output, over all sets; of a detector its rows in the order of float64's."""
    if detections and detections.most_lost is not None and limits:
        lost = 1 - mean_precision(found, truth)
        shown = _check(
            runner, "loss of average precision", [np.zeros(1)], [np.zeros(1)], Limit(detections.most_lost, 0.0)
        )
        return [shown | {"max_abs": lost, "max_rel": lost, "passed": lost <= detections.most_lost}]
    if detections:
        rows = Rows(detections.nms_iou, detections.score_thr)
        found = [align_rows(one, right, rows) for one, right in zip(found, truth, strict=True)]
    return [
        _check(runner, name, [t[name].astype(np.float64) for t in truth], [f[name] for f in found], limit)
        for name, limit in limits.items()
    ]


def _check(
    runner: str, name: str, truth: list[np.ndarray], found: list[np.ndarray], limit: Limit
) -> dict[str, Any]:
    pairs = [(t, f.astype(np.float64)) for t, f in zip(truth, found, strict=True)]
    sound = all(f.shape == t.shape and np.isfinite(f).all() for t, f in pairs)
    max_rel = max(_relative(t, f) for t, f in pairs) if sound else float("inf")
    cosine = min(_cosine(t, f) for t, f in pairs) if sound else 0.0
    errors = np.concatenate([np.abs(f - t).ravel() for t, f in pairs]) if sound else np.array([np.inf])
    return {
        "runner": runner,
        "name": name,
        "samples": sum(len(t) for t in truth),
        "max_abs": float(errors.max()),
        "max_rel": max_rel,
        "quantiles": {f"p{q}": float(np.quantile(errors, q / 100)) for q in (50, 90, 99)} if sound else {},
        "cosine": cosine,
        "top1_agreement": _top1(pairs) if sound else None,
        "torch_float32_max_rel": limit.torch_float32,
        "stored_max_rel": limit.stored,
        "limit": limit.limit,
        "min_cosine": limit.min_cosine,
        "evidence": limit.evidence,
        "passed": max_rel <= limit.limit and cosine >= limit.min_cosine,
    }


def _relative(truth: np.ndarray, value: np.ndarray) -> float:
    return float(np.abs(value - truth).max() / max(np.abs(truth).max(), 1e-300))


def _cosine(truth: np.ndarray, value: np.ndarray) -> float:
    norms = np.linalg.norm(truth) * np.linalg.norm(value)
    return float(np.vdot(truth, value) / norms) if norms else 1.0


def _top1(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float | None:
    if any(t.ndim != 2 or t.shape[1] < 2 for t, _ in pairs):
        return None
    return float(np.concatenate([t.argmax(1) == f.argmax(1) for t, f in pairs]).mean())
