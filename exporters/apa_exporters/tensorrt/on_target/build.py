"""Build every candidate of a recipe, judge and time them, and choose."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import golden, trial
from .choice import Candidate, Choice, choose_engine
from .device import EngineRun
from .engine import Built, build_engine, deserialize
from .layers import computes_in, count_written_types, launches, layers_of
from .machine import Gpu, check_plugin
from .monitor import Report
from .recipe import GAINS, INPUTS, PLUGIN, TRUTH, Recipe
from .refusal import FAILED, MISSING, RefusalError

BUILDS = 3  # of each candidate, where there is a choice


@dataclass
class Attempt:
    """One candidate, as far as it came; checks, launches and types are those of the last build, which is the one to
    keep. `refused`: why it is not to be used.

    `latencies`: ms by size, of each build. `in_precision`: whether it computes in what was asked for, None: unknown
    """

    activation: str
    builds: list[Built] = field(default_factory=list)
    refused: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    launches: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    in_precision: bool | None = None
    latencies: list[dict[str, list[float]]] = field(default_factory=list)

    def samples(self, size: str) -> list[float]:
        """Of all builds."""
        return [one for build in self.latencies for one in build.get(size, [])]


@dataclass(frozen=True)
class Verdict:
    """The attempts, and which one to keep."""

    attempts: list[Attempt]
    choice: Choice

    @property
    def kept(self) -> Attempt:
        return next(attempt for attempt in self.attempts if attempt.activation == self.choice.activation)


def build_and_judge(folder: Path, recipe: Recipe, gpu: Gpu, report: Report, timing_cache: Path) -> Verdict:
    """Every model of the recipe, built, run and compared.

    Raises:
        RefusalError: none can be used; `checks` holds what parity found.
    """
    attempts = [Attempt(activation) for activation in recipe.models]
    for attempt in attempts:
        if attempt.activation == PLUGIN and recipe.plugin:
            _try(attempt, recipe, partial(check_plugin, folder / recipe.plugin, gpu), report)
    for number in range(BUILDS):
        left = [attempt for attempt in attempts if not attempt.refused]
        if not number or len(left) > 1:
            _run_round(left, number, folder, recipe, gpu, report, timing_cache)
    choice = choose_engine([Candidate(a.activation, not a.refused, a.latencies) for a in attempts])
    if choice.activation is None:
        raise _none_left(attempts)
    reasons = [choice.reason, *(f"{name} not tried: {why}" for name, why in recipe.not_tried.items())]
    choice = replace(choice, reason="; ".join(reasons))
    return Verdict(attempts, choice)


def _run_round(
    attempts: list[Attempt], number: int, folder: Path, recipe: Recipe, gpu: Gpu, report: Report, timing_cache: Path
) -> None:
    """Build, judge and time each once. Builds after the first learn for themselves which kernels are fast: what the
    cache holds they would only repeat."""
    with ExitStack() as stack:
        own = Path(stack.enter_context(TemporaryDirectory())) if number else None
        for attempt in attempts:
            report(say=f"building the engine, {number + 1} of up to {BUILDS}: activation {attempt.activation}")
            cache = own / attempt.activation if own else timing_cache
            _try(attempt, recipe, partial(_build, attempt, folder, recipe, report, cache), report)
        report(say=f"running on {gpu.name}")
        runs: dict[str, EngineRun] = {}
        for attempt in [attempt for attempt in attempts if not attempt.refused]:
            judge = partial(_judge, attempt, runs, stack, folder, recipe, gpu)
            _try(attempt, recipe, judge, report)
        sound = [attempt for attempt in attempts if not attempt.refused]
        feed = golden.load(folder / INPUTS)[0]
        found = trial.latencies({a.activation: runs[a.activation] for a in sound}, feed, recipe.shapes, recipe.runs)
        for attempt in sound:
            attempt.latencies.append(found[attempt.activation])


def _build(attempt: Attempt, folder: Path, recipe: Recipe, report: Report, timing_cache: Path) -> None:
    attempt.builds.append(build_engine(folder, recipe, attempt.activation, report, timing_cache))


def _try(attempt: Attempt, recipe: Recipe, step: Callable[[], None], report: Report) -> None:
    """One candidate may fail where another does not, which is said at once; where there is but one to build, the
    refusal is raised as it is."""
    try:
        step()
    except RefusalError as refusal:
        if not attempt.builds and len(recipe.models) == 1:
            raise
        attempt.refused = f"{refusal.saw}; wanted {refusal.wanted}"
        advice = f". {refusal.do}" if refusal.code == MISSING else ""
        report(say=f"activation {attempt.activation} is not used: {attempt.refused}{advice}")


def _judge(
    attempt: Attempt, runs: dict[str, EngineRun], stack: ExitStack, folder: Path, recipe: Recipe, gpu: Gpu
) -> None:
    """Open the last build, and keep it open in `runs`; hold what it gives against the golden outputs."""
    import tensorrt as trt

    engine = deserialize(attempt.builds[-1], folder, recipe)
    run = runs[attempt.activation] = stack.enter_context(closing(EngineRun(trt, engine)))
    found = trial.outputs(run, golden.load(folder / INPUTS))
    layers = layers_of(run.engine, run.context)  # after a run: its shapes are set
    attempt.launches, attempt.types = launches(layers), count_written_types(layers)
    attempt.in_precision = computes_in(recipe.precision, layers)
    name = f"TensorRT on {gpu.name}, activation {attempt.activation}"
    truth, (gains,) = golden.load(folder / TRUTH), golden.load(folder / GAINS)
    attempt.checks = golden.check(name, truth, found, recipe.limits, recipe.detections, gains)
    wrong = [c for c in attempt.checks if not c["passed"]]
    if wrong:
        saw = "; ".join(golden.explain(one) for one in wrong)
        raise RefusalError(saw, "parity with the float64 module", "Nothing was written.", FAILED)
    if recipe.precision != "fp32":
        _check_precision(attempt, recipe)


def _check_precision(attempt: Attempt, recipe: Recipe) -> None:
    """float32 is what TensorRT falls back to, so only other types can be missed."""
    if attempt.in_precision is None and not recipe.allow_unknown_precision:
        saw = "the inspector shows no layer's type: whether it computes in the type cannot be judged"
        do = "Nothing was written. --allow-unknown-precision keeps such an engine, and records it."
        raise RefusalError(saw, f"an engine in {recipe.precision}", do, FAILED)
    if attempt.in_precision is False:
        saw = f"its layers write {attempt.types}"
        raise RefusalError(saw, f"an engine in {recipe.precision}", "Nothing was written.", FAILED)


def _none_left(attempts: list[Attempt]) -> RefusalError:
    saw = "; ".join(f"activation {attempt.activation}: {attempt.refused}" for attempt in attempts)
    refusal = RefusalError(saw, "an engine that can be used", "Nothing was written.", FAILED)
    refusal.checks = [check for attempt in attempts for check in attempt.checks]  # type: ignore[attr-defined]
    return refusal
