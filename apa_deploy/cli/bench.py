"""`apa-bench`: how long artifacts take, side by side: intervals, raw samples, and whether they differ at all."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..bench.environment import busy_note
from ..choices import PLAIN_UNITS
from ..measure.side_by_side import TimingPlan
from ..measure.subject import RUNTIMES
from ..records.benchmark import BenchResult
from ..report import check_report_path, write_report
from ..report.bench import bench_report, kernel_sentences, sentence
from ..report.wording import amount, interval
from .common import (
    add_ort_library,
    add_report,
    count_of,
    print_json,
    run_verb,
    seconds_of,
    shape_of,
    verb_parser,
    wide_console,
)
from .model_options import add_loading, loading_of

if TYPE_CHECKING:
    from ..bench.run import BenchOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-bench`; returns the exit code: 1 if any artifact could not be measured."""
    return run_verb(_parser(), _bench, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("apa-bench", __doc__ or "")
    parser.add_argument("artifacts", metavar="ARTIFACT", nargs="+", type=Path, help=".onnx, engine or checkpoint")
    add = parser.add_argument
    add("--against", choices=PLAIN_UNITS, default="", help="also time the same network with this activation")
    add("--batch", type=_counts, default=(1,), metavar="1,8", help="batch sizes (default: 1)")
    add("--threads", type=_counts, default=(None,), metavar="1,2", help="threads (default: the runtime's own)")
    add("--runtime", type=_runtimes, default=(), metavar="NAME,...", help=", ".join(RUNTIMES))
    add("--input-shape", metavar="CxHxW", type=shape_of, help="if no passport gives it, e.g. 3x224x224")
    add("--no-activations", action="store_true", help="do not measure each activation alone")
    add("--passport", action="store_true", help="put the latency into the passport beside each artifact")
    add_ort_library(parser)
    add_report(parser)
    add("--force", action="store_true", help="replace an existing report")
    add = parser.add_argument_group("timing").add_argument
    plan, shown = TimingPlan(), "(default: %(default)s)"
    from_zero = partial(count_of, least=0)
    add("--launches", type=count_of, default=plan.launches, help=f"how often fresh processes start {shown}")
    add("--rounds", type=count_of, default=plan.rounds, help=f"turns per launch {shown}")
    add("--duration", type=seconds_of, default=plan.turn_s, help=f"seconds per turn {shown}")
    add("--warmup", type=from_zero, default=plan.warmup, help=f"inferences before the first turn {shown}")
    add("--timeout", type=seconds_of, default=plan.limit_s, help=f"seconds that an answer may take {shown}")
    group = parser.add_argument_group("checkpoints")
    add_loading(group)
    return parser


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(count_of(one) for one in text.split(",")))


def _runtimes(text: str) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(text.split(",")))
    if not set(wanted) <= set(RUNTIMES):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted some of {', '.join(RUNTIMES)}")
    return wanted


def _bench(options: argparse.Namespace) -> int:
    from ..bench.run import bench
    from ..bench.to_passport import add_latency, check_passport

    check_report_path(options.report, force=options.force)
    if options.passport:
        for path in options.artifacts:
            check_passport(path)
    result = bench(options.artifacts, _bench_options(options))
    for path in options.artifacts if options.passport else ():
        add_latency(path, result)
    if options.report:
        report = bench_report(result, options.artifacts, _report_options(options), options.command)
        write_report(report, options.report, force=options.force)
    if options.json:
        print_json(result)
    else:
        _print(result)
    return 1 if result.failures else 0


def _report_options(options: argparse.Namespace) -> dict[str, object]:
    """The options that shape the figures, for the report."""
    plan = {name: getattr(options, name) for name in ("launches", "rounds", "duration", "warmup")}
    threads = ", ".join(str(count or "the runtime's own") for count in options.threads)
    return {
        "batch": ", ".join(map(str, options.batch)),
        "threads": threads,
        "against": options.against or "-",
    } | plan


def _bench_options(options: argparse.Namespace) -> BenchOptions:
    from ..bench.run import BenchOptions

    plan = TimingPlan(
        launches=options.launches,
        rounds=options.rounds,
        turn_s=options.duration,
        warmup=options.warmup,
        limit_s=options.timeout,
    )
    return BenchOptions(
        batches=options.batch,
        threads=options.threads,
        runtimes=options.runtime,
        against=options.against,
        input_shape=options.input_shape,
        activations=not options.no_activations,
        plan=plan,
        loading=loading_of(options),
    )


def _print(result: BenchResult) -> None:
    console = wide_console()
    headers = ("artifact", "batch", "threads", "p50, ms", "p90", "p99", "samples/s", "load, s", "memory")
    rows = []
    for one in result.series:
        times = (interval(value) for value in (one.p50, one.p90, one.p99, one.throughput))
        setting = (one.name, str(one.batch), str(one.threads or "auto"))
        rows.append([*setting, *times, f"{one.load_s:.2f}", amount(one.peak_memory_bytes)])
    console.table(headers, rows, "latency, 95 % intervals")
    for comparison in result.comparisons:
        console.print(sentence(comparison))
    for kernels in kernel_sentences(result.series):
        console.print_lines(kernels)
    if note := busy_note(result.environment.load[0], result.environment.cores):
        console.print(note)
    if result.traffic:
        console.print(_traffic(result))
    for failure in result.failures:
        console.print_lines(f"not measured: {failure.name}: {failure.reason}")


def _traffic(result: BenchResult) -> str:
    """Of the activations that move most, which is furthest from what a copy takes?"""
    most = max(row.bytes for row in result.traffic)
    worst = min((row for row in result.traffic if row.bytes == most), key=lambda row: row.copy_fraction)
    return f"the largest activations alone reach {worst.copy_fraction:.0%} of copy speed or more ({worst.path})"
