"""Artifacts take turns: processes side by side, of which only the one that was asked works.

launch 1: every process is made, loads and warms up; then rounds, in each of which every artifact has one turn, in
an order drawn anew; then the processes end. launch 2: the same with fresh processes; and so on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ..bench.process import SubjectError, Worker
from ..records.benchmark import Failure, Interval, Latency
from ..records.placement import KernelPlacement
from .statistics import percentiles
from .subject import Subject


@dataclass(frozen=True)
class TimingPlan:
    """`launches` of fresh processes; in each `rounds` of turns of `turn_s` seconds, at least `least` inferences.

    `warmup`: inferences before the first round; `limit_s`: seconds that any answer may take.
    """

    launches: int = 6
    rounds: int = 7
    turn_s: float = 0.1
    least: int = 3
    warmup: int = 10
    limit_s: float = 300.0


@dataclass
class _Taken:
    """What one subject has measured so far; `reason`: why it stopped."""

    turns: list[list[float]] = field(default_factory=list)
    loads_s: list[float] = field(default_factory=list)
    peak: int = 0
    runtime: str = ""
    placement: dict[str, Any] | None = None
    reason: str = ""
    missing: tuple[str, str, str] | None = None


def time_side_by_side(
    subjects: Sequence[Subject], batch: int, threads: int | None, plan: TimingPlan, seed: int = 0
) -> tuple[list[Latency], list[Failure]]:
    """Measure `subjects` in one setting; those that refuse, crash or hang are left out and named."""
    taken = [_Taken() for _ in subjects]
    order = random.Random(seed)
    for launch in range(plan.launches):
        _launch(subjects, taken, (batch, threads), plan, order, ask_kernels=launch == 0)
    failures = [
        Failure(name=s.name, batch=batch, threads=threads, reason=t.reason, missing=t.missing)
        for s, t in zip(subjects, taken, strict=True)
        if t.reason
    ]
    series = [
        _latency(s, t, batch, threads, plan.launches) for s, t in zip(subjects, taken, strict=True) if not t.reason
    ]
    return series, failures


def _launch(
    subjects: Sequence[Subject],
    taken: Sequence[_Taken],
    setting: tuple[int, int | None],
    plan: TimingPlan,
    order: random.Random,
    *,
    ask_kernels: bool,
) -> None:
    with ExitStack() as stack:
        workers: dict[int, Worker] = {}
        for i in _shuffle(range(len(subjects)), order):
            if not taken[i].reason:
                workers[i] = stack.enter_context(Worker(subjects[i], plan.limit_s))
                _record(taken[i], lambda i=i: workers[i].load(*setting, plan.warmup))
        for _ in range(plan.rounds):
            for i in _shuffle(workers, order):
                if not taken[i].reason:
                    _record(taken[i], lambda i=i: workers[i].turn(plan.turn_s, plan.least))
        for i in workers if ask_kernels else ():  # when nothing is measured any more: it may take another session
            if not taken[i].reason:
                _record(taken[i], workers[i].find_placement)


def _shuffle(items: Any, order: random.Random) -> list[int]:
    return order.sample(list(items), len(items))


def _record(taken: _Taken, ask: Any) -> None:
    try:
        answer = ask()
    except SubjectError as error:
        taken.reason, taken.missing = error.reason, error.missing
        return
    if "placement" in answer:
        taken.placement = answer["placement"]
    elif "ms" in answer:
        taken.turns.append(answer["ms"])
        taken.peak = max(taken.peak, answer["peak_memory_bytes"])
    else:
        taken.loads_s.append(answer["load_s"])
        taken.runtime = answer["runtime"]


def _latency(subject: Subject, taken: _Taken, batch: int, threads: int | None, launches: int) -> Latency:
    p50, p90, p99, mean = percentiles(taken.turns)
    return Latency(
        name=subject.name,
        sha256=subject.sha256,
        runtime=taken.runtime,
        batch=batch,
        threads=threads,
        launches=launches,
        rounds=taken.turns,
        p50=p50,
        p90=p90,
        p99=p99,
        throughput=_inverse(mean, 1e3 * batch),
        loads_s=taken.loads_s,
        peak_memory_bytes=taken.peak,
        placement=KernelPlacement(**taken.placement) if taken.placement else None,
    )


def _inverse(time: Interval, rate: float) -> Interval:
    return Interval(
        value=rate / time.value,
        low=rate / time.high if time.high else None,
        high=rate / time.low if time.low else None,
    )
