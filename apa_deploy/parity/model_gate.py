"""The model gate: every output of the exported model against the float64 module.

The limit, on the largest error relative to the largest |reference| of an output:

    max(4 * error of torch float32, 32 * 2^-24)

Torch float32 runs the same arithmetic in another order, so its error is one sample of what float32 makes
unavoidable; over the few hundred roundings on a path, another order gives another sample, and a factor of 4
covers the spread (the golden networks show 0.5 to 1.9). The second term covers outputs where torch happens
to be nearly exact: 32 roundings of half an ulp, the depth of the smallest network here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.comparator import Comparator, RunResults

from .inputs import Feed
from .report import OutputCheck
from .runners import quiet_polygraphy

FACTOR = 4.0
FLOOR = 32 * 2.0**-24


class Difference:
    """One output of one iteration: reference and value; true where they can be compared at all."""

    def __init__(self, reference: np.ndarray, value: np.ndarray) -> None:
        self.reference, self.value = reference.astype(np.float64), value.astype(np.float64)

    def __bool__(self) -> bool:
        return self.reference.shape == self.value.shape and bool(np.isfinite(self.value).all())


def check_outputs(
    truth: BaseRunner,
    float32: BaseRunner,
    candidates: Sequence[BaseRunner],
    feeds: Sequence[Feed],
    *,
    stored: BaseRunner | None = None,
    floor: float = FLOOR,
) -> list[OutputCheck]:
    """One check for each candidate and output; `truth` and `float32` run the torch module.

    `stored`: for half types, the module whose error the limit rests on instead of float32's.
    """
    baselines = [float32, stored] if stored else [float32]
    with quiet_polygraphy():
        results = Comparator.run([truth, *baselines, *candidates], data_loader=list(feeds))
    return check_results(results, truth.name, [b.name for b in baselines], [c.name for c in candidates], floor)


def check_results(
    results: RunResults, truth: str, baselines: Sequence[str], candidates: Sequence[str], floor: float = FLOOR
) -> list[OutputCheck]:
    """`check_outputs` for outputs that are there already; runners by name, the last baseline makes the limit."""
    names = list(results.keys())
    pairs = [(names.index(truth), names.index(name)) for name in (*baselines, *candidates)]
    with quiet_polygraphy():
        accuracy = Comparator.compare_accuracy(results, compare_func=_differences, comparisons=pairs)[0]
    errors = [_by_output(accuracy[(truth, baseline)]) for baseline in baselines]
    checks = []
    for candidate in candidates:
        for name, found in _by_output(accuracy[(truth, candidate)]).items():
            checks.append(_check(candidate, name, found, [_relative(e[name]) for e in errors], floor))
    return checks


def _differences(reference: dict[str, np.ndarray], value: dict[str, np.ndarray]) -> dict[str, Difference]:
    return {name: Difference(reference[name], value[name]) for name in reference}


def _by_output(iterations: Sequence[dict[str, Difference]]) -> dict[str, list[Difference]]:
    return {name: [iteration[name] for iteration in iterations] for name in iterations[0]}


def _relative(found: Sequence[Difference]) -> float:
    """Largest error over the iterations, each relative to its own largest |reference|."""
    return max(float(_largest(d.value - d.reference) / max(_largest(d.reference), 1e-300)) for d in found)


def _largest(values: np.ndarray) -> float:
    """|values| at most; 0 where there are none, as after a suppression that keeps nothing."""
    return float(np.abs(values).max(initial=0.0))


def _check(
    runner: str, name: str, found: Sequence[Difference], baselines: Sequence[float], floor: float
) -> OutputCheck:
    """`baselines`: errors of torch float32, and for half types of storing alone; the last makes the limit."""
    limit, torch_error = max(FACTOR * baselines[-1], floor), baselines[0]
    stored = baselines[1] if len(baselines) > 1 else None
    samples = sum(len(d.reference) if d.reference.ndim else 1 for d in found)
    if not all(found):
        return OutputCheck(
            runner=runner, name=name, samples=samples, max_abs=float("inf"), max_rel=float("inf"), quantiles={},
            cosine=0.0, top1_agreement=None, torch_float32_max_rel=torch_error, stored_max_rel=stored,
            limit=limit, passed=False,
        )  # fmt: skip
    errors = np.concatenate([np.abs(d.value - d.reference).ravel() for d in found])
    quantiles = {f"p{q}": float(np.quantile(errors, q / 100)) for q in (50, 90, 99)} if errors.size else {}
    max_rel = _relative(found)
    return OutputCheck(
        runner=runner,
        name=name,
        samples=samples,
        max_abs=_largest(errors),
        max_rel=max_rel,
        quantiles=quantiles,
        cosine=min(_cosine(d) for d in found),
        top1_agreement=_top1(found),
        torch_float32_max_rel=torch_error,
        stored_max_rel=stored,
        limit=limit,
        passed=max_rel <= limit,
    )


def _cosine(d: Difference) -> float:
    norms = np.linalg.norm(d.reference) * np.linalg.norm(d.value)
    return float(np.vdot(d.reference, d.value) / norms) if norms else 1.0


def _top1(found: Sequence[Difference]) -> float | None:
    if any(d.reference.ndim != 2 or d.reference.shape[1] < 2 or not len(d.reference) for d in found):
        return None
    same = [d.reference.argmax(1) == d.value.argmax(1) for d in found]
    return float(np.concatenate(same).mean())
