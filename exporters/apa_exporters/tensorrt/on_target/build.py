"""Build every candidate of a recipe, judge and time them, and choose."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import golden, trial
from .choice import Candidate, Choice, choose_engine
from .engine import Built, build_engine, deserialize
from .layers import computes_in, count_written_types, launches, layers_of
from .machine import Gpu
from .monitor import Report
from .recipe import INPUTS, TRUTH, Recipe
from .refusal import FAILED, RefusalError


@dataclass
class Attempt:
    """One candidate, as far as it came. `refused`: why it is not to be used; `samples`: ms.

    `in_precision`: whether it computes in what was asked for; None: it cannot be read.
    """

    activation: str
    built: Built | None = None
    refused: str = ""
    checks: list[dict[str, Any]] = field(default_factory=list)
    launches: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    in_precision: bool | None = None
    samples: list[float] = field(default_factory=list)


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
    attempts = [_attempt(folder, recipe, activation, report, timing_cache) for activation in recipe.models]
    report(say=f"running on {gpu.name}")
    with ExitStack() as stack:
        runners = {}
        for attempt in attempts:
            if attempt.built:
                runner = _runner(attempt, folder, recipe, stack)
                _noting_refusals(attempt, lambda: _judge(attempt, runner, folder, recipe, gpu))  # noqa: B023
                runners[attempt.activation] = runner
        sound = {a.activation: runners[a.activation] for a in attempts if not a.refused}
        for name, samples in trial.latencies(sound, recipe.runs).items():
            next(a for a in attempts if a.activation == name).samples = samples
    choice = choose_engine([Candidate(a.activation, not a.refused, a.samples) for a in attempts])
    if choice.activation is None:
        raise _none_left(attempts)
    return Verdict(attempts, choice)


def _attempt(folder: Path, recipe: Recipe, activation: str, report: Report, timing_cache: Path) -> Attempt:
    attempt = Attempt(activation)
    report(say=f"building the engine: activation {activation}")

    def build() -> None:
        attempt.built = build_engine(folder, recipe, activation, report, timing_cache)

    if len(recipe.models) == 1:
        build()  # what is refused is said as it is
    else:
        _noting_refusals(attempt, build)
    return attempt


def _noting_refusals(attempt: Attempt, step: Callable[[], None]) -> None:
    """One candidate may fail where the other does not."""
    try:
        step()
    except RefusalError as refusal:
        attempt.refused = f"{refusal.saw}; wanted {refusal.wanted}"


def _runner(attempt: Attempt, folder: Path, recipe: Recipe, stack: ExitStack) -> Any:
    from polygraphy.backend.trt import TrtRunner

    assert attempt.built is not None
    return stack.enter_context(TrtRunner(deserialize(attempt.built, folder, recipe), name=attempt.activation))


def _judge(attempt: Attempt, runner: Any, folder: Path, recipe: Recipe, gpu: Gpu) -> None:
    found = trial.outputs(runner, golden.load(folder / INPUTS))
    layers = layers_of(runner.engine, runner.context)  # after a run: its shapes are set
    attempt.launches, attempt.types = launches(layers), count_written_types(layers)
    attempt.in_precision = computes_in(recipe.precision, layers)
    name = f"TensorRT on {gpu.name}, activation {attempt.activation}"
    attempt.checks = golden.check(name, golden.load(folder / TRUTH), found, recipe.limits, recipe.detections)
    wrong = [c for c in attempt.checks if not c["passed"]]
    if wrong:
        saw = "; ".join(f"{c['name']} is {c['max_rel']:.1e} off (limit {c['limit']:.1e})" for c in wrong)
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
