"""The report of `apa-bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bench.environment import busy_note
from ..records.benchmark import BenchResult, Comparison, Latency
from ..records.passport import FileRecord, file_record
from .record import Compared, KeyFigure, Report, ReportVerdict
from .wording import interval, times

_MOST_FIGURES = 4
_NOTE = (
    "Each artifact ran in processes of its own, several launches of them; their turns alternated, one at a time. "
    "The verdict is faster or slower where p < 0.01 in Student's t-test over the launches and the times differ by "
    "at least 1 %. The interval of a ratio holds with 99 %, every other with 95 %. The first inference of a turn "
    "is not kept."
)


def bench_report(result: BenchResult, paths: Sequence[Path], options: dict[str, Any], command: str) -> Report:
    """Latency, comparisons and memory traffic of one benchmark."""
    files = [file_record(path) for path in paths]
    return Report(
        title="Latency of " + ", ".join(path.name for path in paths),
        verdict=ReportVerdict(status="information", summary=_summary(result), reasons=_reasons(result)),
        figures=[
            KeyFigure(label=one.name, value=f"{one.p50.value:.3g} ms", note=f"median, batch {one.batch}")
            for one in result.series[:_MOST_FIGURES]
        ],
        compared=_list_compared(result, files),
        latency=result.series,
        comparisons=result.comparisons,
        traffic=result.traffic,
        failures=result.failures,
        environment=result.environment,
        sources=files,
        options=options,
        commands=[command],
        notes=[_NOTE],
    )


def _list_compared(result: BenchResult, files: Sequence[FileRecord]) -> list[Compared]:
    baselines, known = {one.baseline for one in result.comparisons}, {file.sha256: file for file in files}
    series = {one.name: one for one in result.series}.values()
    return [
        Compared(
            role="baseline" if one.name in baselines else "measured",
            name=one.name,
            runtime=one.runtime,
            file=known.get(one.sha256),
        )
        for one in series
    ]


def _summary(result: BenchResult) -> str:
    count = len({one.name for one in result.series})
    measured = "one artifact was measured" if count == 1 else f"{count} artifacts were measured"
    measured = measured.capitalize()
    if not result.comparisons:
        return f"{measured}; nothing was compared."
    counts = {
        word: sum(c.verdict == word for c in result.comparisons) for word in ("faster", "slower", "no difference")
    }
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{measured}. Beside the baseline: {said}."


def _reasons(result: BenchResult) -> list[str]:
    note = busy_note(result.environment.load[0], result.environment.cores)
    return [
        *([f"{note[0].upper()}{note[1:]}."] if note else []),
        *map(sentence, result.comparisons),
        *kernel_sentences(result.series),
        *(f"{f.name} was not measured: {f.reason}" for f in result.failures),
    ]


def sentence(one: Comparison) -> str:
    """A comparison in words."""
    setting = f"batch {one.batch}" + (f", {one.threads} threads" if one.threads else "")
    if one.verdict == "no difference":
        ratio = f"{setting}, ratio {interval(one.ratio)}"
        return f"{one.name} and {one.baseline}: no difference within noise ({ratio})."
    return f"{one.name} {_beside(one.ratio.value)} {one.baseline} ({setting}, p = {one.p_value:.2g})."


def kernel_sentences(series: Sequence[Latency]) -> list[str]:
    """Which kernels ran the activations of each artifact that has some, where the runtime says it."""
    said = (f"activations of {one.name}: {one.placement}." for one in series if one.placement and one.sha256)
    return list(dict.fromkeys(said))


def _beside(ratio: float) -> str:
    """A ratio of times in words: per cents up to a factor of two, times beyond."""
    if 0.5 <= ratio <= 2:
        return f"takes {abs(ratio - 1):.1%} {'more' if ratio > 1 else 'less'} time than"
    return f"takes {times(ratio)} as long as" if ratio > 1 else f"is {times(1 / ratio)} as fast as"
