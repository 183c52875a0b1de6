"""Build every candidate of a bundle, judge and time them, and choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import golden, trial
from .choice import Candidate, choose_engine
from .device import EngineRun
from .engine import Built, build_engine, deserialize
from .layers import computes_in, count_written_types, launches, layers_of
from .machine import Gpu, check_plugin, check_precision
from .monitor import Report
from .recipe import GAINS, INPUTS, PLUGIN_CODES, TRUTH, WITH_PLUGIN, Recipe
from .refusal import FAILED, MISSING, RefusalError

BUILDS = 3  # of each candidate, where there is a choice


@dataclass
class Attempt:
    """One candidate, as far as it came; checks, launches and types are those of the last build, which is the one to
    keep. `refused`: why it is not to be used.

    `home`, `recipe`: what it is built from, how right it must be. `open_precision`: whether others are tried too.
    `latencies`: ms by size, of each build. `in_precision`: whether it computes in what was asked for, None: unknown
    """

    home: Path
    recipe: Recipe
    activation: str
    open_precision: bool = False
    builds: list[Built] = field(default_factory=list)
    refused: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    launches: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    in_precision: bool | None = None
    latencies: list[dict[str, list[float]]] = field(default_factory=list)

    @property
    def candidate(self) -> Candidate:
        """What the choice looks at."""
        precision = self.recipe.precision if self.open_precision else ""
        return Candidate(self.activation, not self.refused, self.latencies, precision)

    @property
    def name(self) -> str:
        """For people: with its precision where that is open."""
        return f"{self.recipe.precision}, " * self.open_precision + f"activation {self.activation}"

    def samples(self, size: str) -> list[float]:
        """Of all builds."""
        return [one for build in self.latencies for one in build.get(size, [])]


@dataclass(frozen=True)
class Verdict:
    """The attempts, which one to keep, and why."""

    attempts: list[Attempt]
    kept: Attempt
    reason: str


def build_and_judge(recipes: Mapping[Path, Recipe], gpu: Gpu, report: Report, timing_cache: Path) -> Verdict:
    """Every model of every recipe, built, run and compared; recipes by the folder of their files.

    Raises:
        RefusalError: none can be used; `checks` holds what parity found.
    """
    several = len(recipes) > 1
    attempts = [Attempt(home, one, name, several) for home, one in recipes.items() for name in one.models]
    alone = sum(attempt.activation != PLUGIN_CODES for attempt in attempts) == 1
    if not several:
        check_precision(attempts[0].recipe.precision, gpu)
    for attempt in attempts:
        _try(attempt, partial(_check_gpu, attempt, gpu), report, alone)
    for number in range(BUILDS):
        left = [attempt for attempt in attempts if not attempt.refused]
        if left and (not number or len(left) > 1):
            _run_round(left, number, gpu, report, timing_cache, alone)
    candidates = {attempt.candidate.name: attempt for attempt in attempts}
    choice = choose_engine([attempt.candidate for attempt in attempts])
    if choice.name is None:
        raise _none_left(attempts)
    not_tried = {name: why for recipe in recipes.values() for name, why in recipe.not_tried.items()}
    reasons = [choice.reason, *(f"{name} not tried: {why}" for name, why in not_tried.items())]
    return Verdict(attempts, candidates[choice.name], "; ".join(reasons))


def _check_gpu(attempt: Attempt, gpu: Gpu) -> None:
    """Raise a `RefusalError` where this GPU or its driver cannot run the candidate."""
    check_precision(attempt.recipe.precision, gpu)
    if attempt.activation in WITH_PLUGIN and attempt.recipe.plugin:
        check_plugin(attempt.home / attempt.recipe.plugin, gpu)


def _run_round(
    attempts: list[Attempt], number: int, gpu: Gpu, report: Report, timing_cache: Path, alone: bool
) -> None:
    """Build, judge and time each once. Builds after the first learn for themselves which kernels are fast: what the
    cache holds they would only repeat."""
    with ExitStack() as stack:
        own = Path(stack.enter_context(TemporaryDirectory())) if number else None
        for attempt in attempts:
            report(say=f"building the engine, {number + 1} of up to {BUILDS}: {attempt.name}")
            cache = own / attempt.candidate.name if own else timing_cache
            _try(attempt, partial(_build, attempt, report, cache), report, alone)
        report(say=f"running on {gpu.name}")
        runs: dict[str, EngineRun] = {}
        for attempt in [attempt for attempt in attempts if not attempt.refused]:
            _try(attempt, partial(_judge, attempt, runs, stack, gpu), report)
        sound = {attempt.candidate.name: attempt for attempt in attempts if not attempt.refused}
        first = attempts[0]  # shapes and runs are those of all
        feed = golden.load(first.home / INPUTS)[0]
        timed = {name: runs[name] for name in sound}
        found = trial.latencies(timed, feed, first.recipe.shapes, first.recipe.runs)
        for name, attempt in sound.items():
            attempt.latencies.append(found[name])


def _build(attempt: Attempt, report: Report, timing_cache: Path) -> None:
    attempt.builds.append(build_engine(attempt.home, attempt.recipe, attempt.activation, report, timing_cache))


def _try(attempt: Attempt, step: Callable[[], None], report: Report, alone: bool = False) -> None:
    """One candidate may fail where another does not, which is said at once; where there is but one activation, the
    refusal is raised as it is: a plugin that does not load writes no codes either."""
    try:
        step()
    except RefusalError as refusal:
        if alone and not attempt.builds and attempt.activation != PLUGIN_CODES:
            raise
        attempt.refused = f"{refusal.saw}; wanted {refusal.wanted}"
        advice = f". {refusal.do}" if refusal.code == MISSING else ""
        report(say=f"{attempt.name} is not used: {attempt.refused}{advice}")


def _judge(attempt: Attempt, runs: dict[str, EngineRun], stack: ExitStack, gpu: Gpu) -> None:
    """Open the last build, and keep it open in `runs`; hold what it gives against the golden outputs."""
    import tensorrt as trt

    folder, recipe = attempt.home, attempt.recipe
    engine = deserialize(attempt.builds[-1], folder, recipe)
    run = runs[attempt.candidate.name] = stack.enter_context(closing(EngineRun(trt, engine)))
    found = trial.outputs(run, golden.load(folder / INPUTS))
    layers = layers_of(run.engine, run.context)  # after a run: its shapes are set
    attempt.launches, attempt.types = launches(layers), count_written_types(layers)
    attempt.in_precision = computes_in(recipe.precision, layers)
    name = f"TensorRT on {gpu.name}, {attempt.name}"
    truth, (gains,) = golden.load(folder / TRUTH), golden.load(folder / GAINS)
    attempt.checks = golden.check(name, truth, found, recipe.limits, recipe.detections, gains)
    wrong = [c for c in attempt.checks if not c["passed"]]
    if wrong:
        saw = "; ".join(golden.explain(one) for one in wrong)
        raise RefusalError(saw, "parity with the float64 module", "Nothing was written.", FAILED)
    if recipe.precision != "fp32":
        _check_types(attempt, recipe)


def _check_types(attempt: Attempt, recipe: Recipe) -> None:
    """float32 is what TensorRT falls back to, so only other types can be missed."""
    if attempt.in_precision is None and not recipe.allow_unknown_precision:
        saw = "the inspector shows no layer's type: whether it computes in the type cannot be judged"
        do = "Nothing was written. --allow-unknown-precision keeps such an engine, and records it."
        raise RefusalError(saw, f"an engine in {recipe.precision}", do, FAILED)
    if attempt.in_precision is False:
        saw = f"its layers write {attempt.types}"
        raise RefusalError(saw, f"an engine in {recipe.precision}", "Nothing was written.", FAILED)


def _none_left(attempts: list[Attempt]) -> RefusalError:
    saw = "; ".join(f"{attempt.name}: {attempt.refused}" for attempt in attempts)
    refusal = RefusalError(saw, "an engine that can be used", "Nothing was written.", FAILED)
    refusal.checks = [check for attempt in attempts for check in attempt.checks]  # type: ignore[attr-defined]
    return refusal
