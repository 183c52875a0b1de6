"""The model gate: every output of a candidate against the float64 network; `limits` derives what it allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.comparator import Comparator, RunResults

from ..detection.rows import Rows, align_rows, are_detections, is_empty, match_columns, mean_precision
from ..errors import GateError
from ..network import FLOAT32, FLOAT32_AGAIN, OWN, TRUTH, Network
from ..records.parity import GainCheck, OutputCheck
from ..tensors.signature import Feed
from .gain import check_gains, gain_ranges
from .limits import CEILING, gain_room, least_cosine, model_limit, precision_lost
from .runners import NetworkRunner, RecordedRunner, quiet_polygraphy

AVERAGE_PRECISION = "loss of average precision"


class Difference:
    """One output of one iteration: reference and value; true where they can be compared at all."""

    def __init__(self, reference: np.ndarray, value: np.ndarray) -> None:
        self.reference, self.value = reference.astype(np.float64), value.astype(np.float64)

    def __bool__(self) -> bool:
        return self.reference.shape == self.value.shape and bool(np.isfinite(self.value).all())


def check_outputs(
    network: Network,
    candidates: Sequence[BaseRunner],
    feeds: Sequence[Feed],
    precision: str = "fp32",
    output_names: Sequence[str] | None = None,
) -> list[OutputCheck]:
    """One check for each candidate and output.

    Args:
        precision: what the candidates compute in: the limit rests on float32's error, or on that of storing values
            in the half type; of a float32 export of a network that stores values in one itself, on that.
        output_names: those to judge; default: all of the network's.
    """
    dtypes = [TRUTH, FLOAT32, FLOAT32_AGAIN] + ([] if precision == "fp32" else [precision])
    if precision == "fp32" and network.half:
        precision, dtypes = network.half, [*dtypes, OWN]
    runners = [NetworkRunner(network, feeds[0], dtype, f"the network in {dtype}", output_names) for dtype in dtypes]
    with quiet_polygraphy():
        results = Comparator.run([*runners, *candidates], data_loader=list(feeds))
    truth, *baselines = (runner.name for runner in runners)
    names = [c.name for c in candidates]
    if network.rows and are_detections(dict(results[truth][0].items())):
        return _check_rows(results, truth, baselines, names, precision, network.rows)
    return check_results(results, truth, baselines, names, precision)


def _check_rows(
    results: RunResults, truth: str, baselines: Sequence[str], candidates: Sequence[str], precision: str, rows: Rows
) -> list[OutputCheck]:
    """`check_results` of detections, each runner's in the order of the truth's.

    Of a half type as average precision: rounding scores to 3 digits reorders what an NMS sees.
    """
    runs = {name: [dict(one.items()) for one in iterations] for name, iterations in results.items()}
    right = runs[truth]
    if any(is_empty(one) for one in right):
        raise GateError(
            "cannot be judged: nothing detected by the reference: no detection against none proves nothing",
            "inputs in which it finds something",
            "Nothing was written. Give such inputs with --inputs FILE.npz, or pass --no-verify.",
        )
    if precision != "fp32" and "proposals" not in right[0]:
        return _check_precision(runs, right, baselines, candidates, precision, rows)
    aligned = RunResults()
    for name, iterations in runs.items():
        fail = name in candidates
        aligned.add(
            [align_rows(*pair, rows, fail=fail) for pair in zip(iterations, right, strict=True)], None, name
        )
    checks = check_results(aligned, truth, baselines, candidates, precision)
    return [_within(check, rows.limits[check.name]) if check.name in rows.limits else check for check in checks]


def _within(check: OutputCheck, largest: float) -> OutputCheck:
    """The check with an absolute limit in place of its own."""
    scale = check.max_abs / check.max_rel if 0 < check.max_rel < np.inf else 1.0
    none: dict[str, Any] = {"min_cosine": None, "gains": [], "ranges": {}}
    changes = {"limit": largest / scale, "evidence": True, "passed": check.max_abs <= largest}
    return check.model_copy(update=none | changes)


def _check_precision(
    runs: dict[str, list[Feed]],
    truth: list[Feed],
    baselines: Sequence[str],
    candidates: Sequence[str],
    precision: str,
    rows: Rows,
) -> list[OutputCheck]:
    """One check a candidate: what it loses of average precision, against what storing in the type loses."""
    lost = {name: 1 - mean_precision(runs[name], truth) for name in (*baselines, *candidates)}
    limit = precision_lost(1 - lost[baselines[-1]])
    matched = {name: match_columns(runs[name], truth, rows) for name in (*baselines[-1:], *candidates)}
    right = match_columns(truth, truth, rows)
    ranges = {k: gain_ranges(v, [matched[baselines[-1]][k]], *gain_room(precision)) for k, v in right.items()}
    checks = []
    for name in candidates:
        gains = [
            GainCheck(**{**one, "what": f"{one['what']} of {k}"})
            for k, v in right.items()
            for one in check_gains(v, matched[name][k], ranges[k])
        ]
        checks.append(OutputCheck(
            runner=name, name=AVERAGE_PRECISION, samples=len(truth), max_abs=lost[name], max_rel=lost[name],
            quantiles={}, cosine=1.0, top1_agreement=None, torch_float32_max_rel=lost[baselines[0]],
            stored_max_rel=lost[baselines[-1]], limit=limit, gains=gains, ranges=ranges,
            passed=lost[name] <= limit and all(gain.passed for gain in gains),
        ))  # fmt: skip
    return checks


def check_recorded(
    recorded: Sequence[Feed], name: str, network: Network, feeds: Sequence[Feed], precision: str
) -> list[OutputCheck]:
    """One check an output; `recorded`: what `name` answered to each of `feeds`, in another process or elsewhere."""
    return check_outputs(network, [RecordedRunner(recorded, feeds[0], name)], feeds, precision, list(recorded[0]))


def check_results(
    results: RunResults, truth: str, baselines: Sequence[str], candidates: Sequence[str], precision: str
) -> list[OutputCheck]:
    """`check_outputs` for outputs that are there already; runners by name.

    Args:
        baselines: float32, float32 again; and where values are stored in a half type that, which makes the limits.
    """
    names = list(results.keys())
    pairs = [(names.index(truth), names.index(name)) for name in (*baselines, *candidates)]
    with quiet_polygraphy(), np.errstate(invalid="ignore"):  # a detection that is lost is infinitely far off
        accuracy = Comparator.compare_accuracy(results, compare_func=_differences, comparisons=pairs)[0]
    known = [_by_output(accuracy[(truth, baseline)]) for baseline in baselines]
    checks = []
    for candidate in candidates:
        for name, found in _by_output(accuracy[(truth, candidate)]).items():
            checks.append(_check(candidate, name, found, [one[name] for one in known], precision))
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
    runner: str, name: str, found: Sequence[Difference], baselines: Sequence[Sequence[Difference]], precision: str
) -> OutputCheck:
    """`baselines`: as in `check_results`. Two of float32: one sample of its error may be lucky."""
    other = next((d for one in baselines for d in one if d.value.shape != d.reference.shape), None)
    if other is not None:  # a difference of shapes is false
        raise GateError(
            f"cannot be judged: {name} has shape {other.reference.shape} in float64 and {other.value.shape} in a "
            "narrower type: rounding decides how much there is",
            "outputs whose shapes follow those of the inputs",
            "Nothing was written. Give other inputs with --inputs FILE.npz, or pass --no-verify.",
        )
    single, stores = baselines[:2], baselines[2:]
    torch_error, stored = max(_relative(one) for one in single), _relative(stores[0]) if stores else None
    limit, truth = model_limit(torch_error if stored is None else stored, precision), [d.reference for d in found]
    least, evidence = least_cosine(precision), has_evidence(truth)
    samples = sum(len(d.reference) if d.reference.ndim else 1 for d in found)
    if not all(found):
        return OutputCheck(
            runner=runner, name=name, samples=samples, max_abs=float("inf"), max_rel=float("inf"), quantiles={},
            cosine=0.0, top1_agreement=None, torch_float32_max_rel=torch_error, stored_max_rel=stored,
            limit=limit, min_cosine=least, evidence=evidence, passed=False,
        )  # fmt: skip
    errors = np.concatenate([np.abs(d.value - d.reference).ravel() for d in found])
    quantiles = {f"p{q}": float(np.quantile(errors, q / 100)) for q in (50, 90, 99)} if errors.size else {}
    max_rel, cosine = _relative(found), min(_cosine(d) for d in found)
    ranges = gain_ranges(truth, [[d.value for d in one] for one in stores or single], *gain_room(precision))
    gains = [GainCheck(**one) for one in check_gains(truth, [d.value for d in found], ranges)]
    return OutputCheck(
        runner=runner,
        name=name,
        samples=samples,
        max_abs=_largest(errors),
        max_rel=max_rel,
        quantiles=quantiles,
        cosine=cosine,
        top1_agreement=_top1(found),
        torch_float32_max_rel=torch_error,
        stored_max_rel=stored,
        limit=limit,
        min_cosine=least,
        gains=gains,
        ranges={name: ranges},
        evidence=evidence,
        passed=max_rel <= limit and cosine >= least and all(gain.passed for gain in gains),
    )


def explain_no_verdict(checks: Sequence[OutputCheck], half: str = "") -> str:
    """Why these checks prove nothing whatever they found, in words; "" where they prove something.

    `half`: the type that the network itself stores values in, if any.
    """
    if not any(check.evidence for check in checks):
        names = ", ".join(dict.fromkeys(check.name for check in checks))
        return f"the reference answers the same to every input ({names})"
    errors = [check for check in checks if check.name != AVERAGE_PRECISION]  # that is no error of values
    far = max(errors, key=lambda check: np.nan_to_num(check.torch_float32_max_rel, nan=np.inf), default=checks[0])
    ceiling = CEILING[half or "fp32"]
    if not errors or far.torch_float32_max_rel <= ceiling:
        return ""
    if not np.isfinite(far.torch_float32_max_rel):
        return f"the network's own float32 overflows where its float64 does not ({far.name})"
    off = f"{far.torch_float32_max_rel:.1e} off its float64 ({far.name})"
    return f"the network's own float32 is {off}, more than {ceiling:.0e}"


def has_evidence(references: Sequence[np.ndarray]) -> bool:
    """Whether an output says anything: it is not one number throughout, nor the same for every input."""
    values = [reference for reference in references if reference.size]
    if not values or all((value == values[0].flat[0]).all() for value in values):
        return False
    rows = [row for value in values for row in (value if value.ndim else [value])]
    return len(rows) == 1 or any(row.shape != rows[0].shape or (row != rows[0]).any() for row in rows[1:])


def _cosine(d: Difference) -> float:
    norms = np.linalg.norm(d.reference) * np.linalg.norm(d.value)
    return float(np.vdot(d.reference, d.value) / norms) if norms else 1.0


def _top1(found: Sequence[Difference]) -> float | None:
    if any(d.reference.ndim != 2 or d.reference.shape[1] < 2 or not len(d.reference) for d in found):
        return None
    same = [d.reference.argmax(1) == d.value.argmax(1) for d in found]
    return float(np.concatenate(same).mean())
