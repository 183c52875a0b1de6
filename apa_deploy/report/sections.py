"""A report as sections of blocks: what is shown, in which order, before any markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..records.benchmark import Comparison, Failure, Latency
from ..records.parity import OutputCheck
from .drawing import Drawn
from .record import Report, worst_first
from .wording import DASH, FORMS, amount, exact, facts, interval, span

Cell = str | bool | None  # a verdict of a row is a bool, None where there is none


_PHONE, _WRAPPED = 48, 36  # letters of a table's text on a line of a phone; of a cell that is wrapped


@dataclass(frozen=True)
class Grid:
    """A table. The first column names the row; columns from `numbers` on hold numbers."""

    name: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: int = 99
    folded: bool = False

    @property
    def wide(self) -> bool:
        """Whether a phone shows only its first columns."""
        columns = zip(*([str(cell) for cell in row] for row in (self.headers, *self.rows)), strict=True)
        return sum(2 + min(_WRAPPED, max(map(len, column))) for column in columns) > _PHONE


@dataclass(frozen=True)
class Figures:
    """Drawings side by side where there is room."""

    drawn: Sequence[Drawn]


@dataclass(frozen=True)
class FactTable:
    """Names and values."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Lines to type."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Text:
    """One paragraph each."""

    paragraphs: Sequence[str]


Block = Grid | Figures | FactTable | Code | Text


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


def sections(report: Report, *, drawn: bool) -> list[Section]:
    """The parts of `report` that hold anything; `drawn`: with figures."""
    titles: dict[str, Callable[[Report], list[Block]]] = {
        "What was compared": _show_compared,
        "Parity": _parity,
        "Detections": lambda report: _detections(report) if drawn else [],
        "Accuracy": _accuracy,
        "Error of each activation": _activation_errors,
        "Learned activations": _curves,
        "Latency": _latency,
        "Activations and memory traffic": _traffic,
        **{table.title: _table(i) for i, table in enumerate(report.tables)},
        "Environment": lambda report: [FactTable(rows)] if (rows := facts(report)) else [],
        "Provenance": _provenance,
        "Reproduce": lambda report: [Code(report.commands)] if report.commands else [],
        "Notes": lambda report: [Text(report.notes)] if report.notes else [],
    }
    figures = _figures(report) if drawn else {}
    built = {title: [*figures.get(title, []), *make(report)] for title, make in titles.items()}
    return [Section(title, blocks) for title, blocks in built.items() if blocks]


def _detections(report: Report) -> list[Block]:
    """Each picture's drawings side by side, the reference first."""
    from .plots import detection_plots

    return [Figures(drawn) for drawn in detection_plots(report.detected)]


def _figures(report: Report) -> dict[str, list[Block]]:
    from .plots import comparison_plot, curve_plots, error_plot, latency_plots

    groups = {
        "Error of each activation": [error_plot(report.activation_errors)],
        "Learned activations": [curve_plots(report.curves)],
        "Latency": [comparison_plot(report.comparisons), *latency_plots(report.latency)],
    }
    return {title: [Figures(drawn) for drawn in group if drawn] for title, group in groups.items()}


def _grid(
    name: str, headers: Sequence[str], rows: Sequence[Sequence[Cell]], numbers: int = 99, *, folded: bool = False
) -> list[Block]:
    """The table without the columns that say nothing, or none."""
    kept = [i for i in range(len(headers)) if any(row[i] not in ("", DASH, None) for row in rows)]
    cells = [[row[i] for i in kept] for row in rows]
    shift = sum(i not in kept for i in range(min(numbers, len(headers))))
    return [Grid(name, [headers[i] for i in kept], cells, numbers - shift, folded)] if rows else []


def _show_compared(report: Report) -> list[Block]:
    rows = [
        [
            one.name,
            one.role,
            one.runtime,
            one.note,
            *((amount(f.bytes), f.sha256[:16]) if (f := one.file) else (DASH, DASH)),
        ]
        for one in report.compared
    ]
    return _grid(
        "Each with the first 16 digits of its SHA-256", ["name", "role", "runtime", "note", "size", "SHA-256"], rows
    )


def _parity(report: Report) -> list[Block]:
    headers = [
        "output",
        "runner",
        "verdict",
        "largest error",
        "limit",
        "float32's own",
        "cosine",
        "gain",
        "top-1",
        "samples",
    ]
    rows: list[list[Cell]] = [
        [c.name, c.runner, c.passed, exact(c.max_rel), exact(c.limit), exact(c.torch_float32_max_rel),
         f"{c.cosine:.9f}", _gain(c), _share(c.top1_agreement), str(c.samples)]
        for c in report.outputs
    ]  # fmt: skip
    limits: list[list[Cell]] = [[one.name, exact(one.value), one.derivation] for one in report.limits]
    name = "Every output against the float64 module; errors relative to the largest value of the output"
    return _grid(name, headers, rows, 3) + _grid(
        "Limits, and where they come from", ["limit", "value", "derivation"], limits
    )


def _gain(check: OutputCheck) -> str:
    """What is off of gain and offset, or the gain; the ranges stand under the limits."""
    return "; ".join(map(str, check.broken_gains or check.gains[:1])) or DASH


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.2%}"


def _accuracy(report: Report) -> list[Block]:
    rows = [[a.group, a.runner, _share(a.top1), _share(a.top5), str(a.samples)] for a in report.accuracy]
    return _grid("Correct answers on labelled data", ["group", "runner", "top-1", "top-5", "samples"], rows, 2)


def _activation_errors(report: Report) -> list[Block]:
    ranked = worst_first(report.activation_errors)
    rows: list[list[Cell]] = [
        [e.path, e.kind, e.runner, e.passed, exact(e.measured), exact(e.predicted), exact(e.limit)] for e in ranked
    ]
    headers = ["activation", "kind", "runner", "verdict", "measured", "predicted", "limit"]
    return _grid(f"All {len(rows)}, ranked by the measured error", headers, rows, 4, folded=len(rows) > 12)


def _curves(report: Report) -> list[Block]:
    rows = [[c.path, c.kind, span(c.lambda_), span(c.kappa), c.floor, c.form] for c in report.curves]
    headers = ["activation", "kind", "lambda", "kappa", "floor", "form"]
    grid = _grid(f"Effective parameters of all {len(rows)}", headers, rows, folded=len(rows) > 12)
    return [*grid, Text([f"{FORMS[0].upper()}{FORMS[1:]}."])] if grid else []


_SETTING = ("artifact", "batch", "threads")


def _latency(report: Report) -> list[Block]:
    compared = [
        [*_setting(c), c.baseline, c.verdict, interval(c.ratio, 4), f"{c.p_value:.3g}"] for c in report.comparisons
    ]
    times = [[*_setting(one), *map(interval, (one.p50, one.p90, one.p99))] for one in report.latency]
    costs = [[*_setting(one), *_costs(one)] for one in report.latency]
    failures = [[*_setting(one), one.reason] for one in report.failures]
    further = ["samples a second", "load, s", "peak memory", "inferences timed"]
    return [
        *_grid("Ratio of times, 99 % interval", [*_SETTING, "beside", "verdict", "time ratio", "p"], compared, 5),
        *_grid("Milliseconds an inference, 95 % intervals", [*_SETTING, "p50", "p90", "p99"], times, 3),
        *_grid("What else it costs", [*_SETTING, *further], costs, 3),
        *_grid("Not measured", [*_SETTING, "why"], failures),
    ]


def _costs(one: Latency) -> list[str]:
    return [
        interval(one.throughput),
        f"{one.load_s:.2f}",
        amount(one.peak_memory_bytes),
        str(len(one.samples)),
    ]


def _setting(one: Latency | Comparison | Failure) -> list[str]:
    return [one.name, str(one.batch or DASH), _threads(one.threads)]


def _threads(threads: int | None) -> str:
    return "auto" if threads is None else str(threads)


def _traffic(report: Report) -> list[Block]:
    rows = [
        [t.path, t.kind, t.artifact, amount(t.bytes), f"{t.ms:.3g}", f"{t.copy_fraction:.0%}"]
        for t in report.traffic
    ]
    headers = ["activation", "kind", "artifact", "bytes moved", "ms", "share of copy speed"]
    return _grid("Each activation alone, on the shapes of the network", headers, rows, 3, folded=len(rows) > 12)


def _table(index: int) -> Callable[[Report], list[Block]]:
    def build(report: Report) -> list[Block]:
        table = report.tables[index]
        return _grid(table.note or table.title, table.headers, table.rows)

    return build


def _provenance(report: Report) -> list[Block]:
    rows = [[f.name, amount(f.bytes), f.sha256] for f in report.sources]
    options = [(name, str(value)) for name, value in report.options.items()]
    chosen: list[Block] = [FactTable(options)] if options else []
    return _grid("Files that went in", ["file", "size", "SHA-256"], rows) + chosen
