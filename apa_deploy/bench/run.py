"""One benchmark: artifacts, and their twins where asked, in every setting of batch and threads."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import GateError, MissingError
from ..files import sha256
from ..measure.side_by_side import TimingPlan, time_side_by_side
from ..measure.statistics import compare_turns
from ..measure.subject import TORCH_RUNTIMES, Subject, runtimes_of
from ..measure.twins import with_twins
from ..progress import step
from ..records.benchmark import BenchResult, Comparison, Failure, Latency
from ..tensors.signature import Shape
from .environment import environment, read_load_average, warn_if_busy
from .inputs import feeds_of
from .traffic import measure_traffic


@dataclass(frozen=True)
class BenchOptions:
    """`batches`, `threads` (None: the runtime's own): every combination is a setting.

    `against`: "relu", "silu" or "" for the first artifact as the baseline; `activations`: measure each activation
    alone as well; `loading`: arguments of `load` for checkpoints.
    """

    batches: tuple[int, ...] = (1,)
    threads: tuple[int | None, ...] = (None,)
    runtimes: tuple[str, ...] = ()
    against: str = ""
    input_shape: Shape | None = None
    activations: bool = True
    plan: TimingPlan = field(default_factory=TimingPlan)
    loading: dict[str, Any] = field(default_factory=dict)


class BenchError(GateError):
    """Nothing could be measured. `failures`: why, an artifact each."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in failures)
        super().__init__(reasons, "an artifact that runs", "Run it alone with its runtime's own tool.")
        self.failures = list(failures)


def bench(paths: Sequence[Path], options: BenchOptions) -> BenchResult:
    """Measure the artifacts at `paths` side by side.

    Raises:
        InputError: a file is absent, or nothing says how large its inputs are.
        BenchError: none of them could be measured.
        MissingError: for each of them this machine lacks something.
    """
    before = read_load_average()
    warn_if_busy(before)
    subjects = subjects_of(paths, options)
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        twins, beside, refused = _baselines(subjects, options.against, Path(folder))
        failures = [Failure(name=name, reason=reason) for name, reason in refused.items()]
        series: list[Latency] = []
        for batch, threads in product(options.batches, options.threads):
            with step(f"Measuring {_setting(batch, threads)}"):
                found, failed = time_side_by_side([*subjects, *twins], batch, threads, options.plan)
            series, failures = series + found, failures + failed
    if not series and failures[0].missing and all(one.missing for one in failures):
        saw, wanted, do = failures[0].missing
        raise MissingError(f"{failures[0].name}: {saw}", wanted, do)
    if not series:
        raise BenchError(failures)
    traffic, copy = measure_traffic(subjects, options.batches[0]) if options.activations else ([], None)
    return BenchResult(
        series=series,
        comparisons=_comparisons(series, beside, options.plan.launches),
        traffic=traffic,
        failures=failures,
        copy_bytes_per_s=copy,
        environment=environment(before),
    )


def _baselines(
    subjects: Sequence[Subject], plain: str, folder: Path
) -> tuple[list[Subject], dict[str, str], dict[str, str]]:
    """Twins, or the first artifact: what else to measure, what stands beside whom, and who has no baseline."""
    if plain:
        return with_twins(subjects, plain, folder)
    return [], {one.name: subjects[0].name for one in subjects[1:]}, {}


def subjects_of(paths: Sequence[Path], options: BenchOptions) -> list[Subject]:
    """Each file on each of the runtimes that open it; names are told apart."""
    found: list[Subject] = []
    for path in paths:
        runtimes, digest = runtimes_of(path, options.runtimes), sha256(path)
        feeds = feeds_of(path, options.input_shape, options.loading.get("input", ()))
        for runtime in runtimes:
            name = f"{path.name} ({runtime})" if len(runtimes) > 1 else path.name
            name = _unlike(name, [one.name for one in found])
            loading = {"input_shape": options.input_shape, **options.loading}
            given = loading if runtime in TORCH_RUNTIMES else {}
            found.append(Subject(name, str(path), runtime, feeds, digest, loading=given))
    return found


def _unlike(name: str, taken: Sequence[str]) -> str:
    """`name`, or "name #2" where it is taken."""
    same = sum(other == name or other.startswith(f"{name} #") for other in taken)
    return f"{name} #{same + 1}" if same else name


def _setting(batch: int, threads: int | None) -> str:
    return f"batch {batch}" + (f", {threads} threads" if threads else "")


def _comparisons(series: Sequence[Latency], beside: dict[str, str], launches: int) -> list[Comparison]:
    """Every artifact beside its baseline in the same setting; none from a single launch, whose luck is unknown."""
    known = {(one.name, one.batch, one.threads): one for one in series}
    found = []
    for one in series:
        baseline = known.get((beside.get(one.name, ""), one.batch, one.threads))
        if baseline is None or launches < 2:
            continue
        ratio, p, verdict = compare_turns(one.rounds, baseline.rounds, launches)
        found.append(
            Comparison(
                name=one.name,
                baseline=baseline.name,
                batch=one.batch,
                threads=one.threads,
                ratio=ratio,
                p_value=p,
                verdict=verdict,
            )
        )
    return found
