"""What one version of a model has done: plain numbers, added to on the event loop only, read by both reports."""

from __future__ import annotations

import bisect
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# Upper bounds in seconds of the latency histogram: a factor of about 2 apart, from .5 ms to 10 s
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OUTCOMES = ("success", "fail", "rejected", "timeout", "cancelled")


@dataclass(slots=True)
class Duration:
    """How often, and how long in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def document(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class Phases:
    """The three parts of an execution."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)

    def add(self, times: tuple[int, int, int], count: int = 1) -> None:
        for duration, ns in zip((self.compute_input, self.compute_infer, self.compute_output), times, strict=True):
            duration.add(ns, count)

    def document(self) -> dict[str, Any]:
        names = ("compute_input", "compute_infer", "compute_output")
        return {name: getattr(self, name).document() for name in names}


@dataclass(slots=True)
class Statistics:
    """`rows`: inferences, as the protocol counts them: a batch of 8 is 8. `batches`: phases by rows."""

    outcomes: Counter[str] = field(default_factory=Counter)
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    phases: Phases = field(default_factory=Phases)
    batches: dict[int, Phases] = field(default_factory=dict)
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    rows: int = 0
    executions: int = 0
    last_ms: int = 0

    def add_execution(self, rows: int, requests: int, times: tuple[int, int, int]) -> None:
        """One execution of `rows` for `requests`, with its three times in nanoseconds.

        Each request has lived through all of each time, so that the mean over requests is what one of them sees.
        """
        self.executions += 1
        self.rows += rows
        joining, running, cutting = times
        self.phases.add((joining * requests, running * requests, cutting * requests), requests)
        self.batches.setdefault(rows, Phases()).add(times)
        self.last_ms = int(time.time() * 1000)

    def add_request(self, outcome: str, ns: int) -> None:
        """One request came to its end after `ns`."""
        self.outcomes[outcome] += 1
        if outcome == "success":
            self.success.add(ns)
            self.latency[bisect.bisect_left(BOUNDS, ns / 1e9)] += 1
        else:
            self.fail.add(ns)

    def document(self, name: str, version: int) -> dict[str, Any]:
        """As the protocol's statistics extension shows it."""
        times = {"success": self.success, "fail": self.fail, "queue": self.queue}
        batches = [{"batch_size": n, **phases.document()} for n, phases in sorted(self.batches.items())]
        return {
            "name": name,
            "version": str(version),
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": self.executions,
            "inference_stats": {k: v.document() for k, v in times.items()} | self.phases.document(),
            "batch_stats": batches,
        }
