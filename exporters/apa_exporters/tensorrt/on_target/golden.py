"""Golden inputs and outputs: what float64 says, and how far an engine's outputs are from it.

The limits were derived where the model was exported (apa_deploy/parity/model_gate.py) and are in the recipe; the
fields of a check are those of its `OutputCheck`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .gain import check_gains
from .recipe import Detections, Limit
from .rows import Rows, align_rows, match_columns, mean_precision

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
    count = 1 + max((int(key.split("/")[0]) for key in arrays), default=0)
    return [{k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(f"{i}/")} for i in range(count)]


def check(
    runner: str,
    truth: Sequence[Arrays],
    found: Sequence[Arrays],
    limits: dict[str, Limit],
    detections: Detections | None = None,
    ranges: Arrays | None = None,
) -> list[Any]:
    """One check an output, over all sets; of a detector its rows in the order of float64's.

    `ranges`: by output, what its gains may be; without them they are not judged.
    """
    ranges = ranges or {}
    if detections and detections.most_lost is not None and limits:
        lost, rows = 1 - mean_precision(found, truth), Rows(detections.nms_iou, detections.score_thr)
        right, theirs = (match_columns(one, truth, rows) for one in (truth, found))
        gains = [
            {**one, "what": f"{one['what']} of {name}"}
            for name in ranges.keys() & right.keys()
            for one in check_gains(right[name], theirs[name], ranges[name])
        ]
        shown = _check(
            runner, "loss of average precision", [np.zeros(1)], [np.zeros(1)], Limit(detections.most_lost, 0.0)
        )
        passed = lost <= detections.most_lost and _are_right(gains)
        return [shown | {"max_abs": lost, "max_rel": lost, "gains": gains, "passed": passed}]
    if detections:
        rows = Rows(detections.nms_iou, detections.score_thr)
        found = [align_rows(one, right, rows) for one, right in zip(found, truth, strict=True)]
        truth = [align_rows(right, right, rows) for right in truth]
    return [
        _check(
            runner,
            name,
            [t[name].astype(np.float64) for t in truth],
            [f[name] for f in found],
            limit,
            ranges.get(name),
        )
        for name, limit in limits.items()
    ]


def explain(check: dict[str, Any]) -> str:
    """What is wrong with an output that did not pass."""
    gains = [one for one in check["gains"] if not _are_right([one])]
    if check["max_rel"] <= check["limit"] and gains:
        off = ", ".join(f"{g['what']} {g['error']:+.2g} ({g['low']:+.2g} to {g['high']:+.2g})" for g in gains)
        return f"{check['name']} is scaled or shifted: {off}"
    return f"{check['name']} is {check['max_rel']:.1e} off (limit {check['limit']:.1e})"


def _check(
    runner: str,
    name: str,
    truth: list[np.ndarray],
    found: list[np.ndarray],
    limit: Limit,
    ranges: np.ndarray | None = None,
) -> dict[str, Any]:
    pairs = [(t, f.astype(np.float64)) for t, f in zip(truth, found, strict=True)]
    sound = all(f.shape == t.shape and np.isfinite(f).all() for t, f in pairs)
    max_rel = max(_relative(t, f) for t, f in pairs) if sound else float("inf")
    cosine = min(_cosine(t, f) for t, f in pairs) if sound else 0.0
    gains = check_gains(truth, [f for _, f in pairs], ranges) if sound and ranges is not None else []
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
        "gains": gains,
        "evidence": limit.evidence,
        "passed": max_rel <= limit.limit and cosine >= limit.min_cosine and _are_right(gains),
    }


def _are_right(gains: Sequence[dict[str, Any]]) -> bool:
    return all(one["low"] <= one["error"] <= one["high"] for one in gains)


def _relative(truth: np.ndarray, value: np.ndarray) -> float:
    return float(np.abs(value - truth).max() / max(np.abs(truth).max(), 1e-300))


def _cosine(truth: np.ndarray, value: np.ndarray) -> float:
    norms = np.linalg.norm(truth) * np.linalg.norm(value)
    return float(np.vdot(truth, value) / norms) if norms else 1.0


def _top1(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float | None:
    if any(t.ndim != 2 or t.shape[1] < 2 for t, _ in pairs):
        return None
    return float(np.concatenate([t.argmax(1) == f.argmax(1) for t, f in pairs]).mean())
