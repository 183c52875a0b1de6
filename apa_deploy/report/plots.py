"""What a report draws: learned curves, errors by activation, latency boxes, samples in time."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from ..escaping import printable
from ..inspection import SPAN, Z
from ..maths import GATE, REFERENCE, UNIT
from ..records.benchmark import Comparison, Latency
from ..records.passport import ActivationRecord
from .drawing import WIDTH, Draw, Drawn, Palette, decades, log_tick, plain_log, svg_of
from .record import ActivationError, Detected, worst_first

_MOST_BARS = 24


def curve_plots(records: Sequence[ActivationRecord]) -> list[Drawn]:
    """The units, the gates, and where lambda and kappa ended, each only where there is something to draw."""
    drawn = []
    for kind, name in ((UNIT, "units, AGLU"), (GATE, "gates, APA")):
        of_kind = [record for record in records if record.kind == kind]
        if of_kind:
            alt = f"Curves of {len(of_kind)} learned {name}"
            svg = svg_of(curves(kind, of_kind), f"curves-{kind}", alt)
            drawn.append(Drawn(svg, f"{len(of_kind)} learned {name}; deeper layers darker."))
    if records:
        svg = svg_of(_parameters(records), "parameters", f"lambda and kappa of {len(records)} activations")
        drawn.append(Drawn(svg, "Effective parameters, one point a channel."))
    return drawn


def curves(kind: str, records: Sequence[ActivationRecord]) -> Draw:
    z = Z[::16]

    def draw(axes: Any, paint: Palette) -> None:
        for i, record in enumerate(records):
            depth = (i + 1) / len(records)
            y = REFERENCE[kind](z, record.lambda_[0], record.kappa[0])
            axes.plot(z, y, color=paint.series[kind == GATE], linewidth=1.2, alpha=0.25 + 0.6 * depth)
        axes.set(xlim=(-SPAN / 2, SPAN / 2), xlabel="z", title=kind)
        if kind == UNIT:
            axes.set_ylim(-2, SPAN / 2)

    return draw


def _parameters(records: Sequence[ActivationRecord]) -> Draw:
    def draw(axes: Any, paint: Palette) -> None:
        for i, kind in enumerate((UNIT, GATE)):
            points = [pair for record in records if record.kind == kind for pair in _pairs(record)]
            if points:
                axes.scatter(
                    *zip(*points, strict=True), s=22, color=paint.series[i], alpha=0.75, linewidths=0, label=kind
                )
        axes.set(xlabel="lambda", ylabel="kappa", title="Where training ended")
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.xaxis.set_major_formatter(log_tick)
        kappas = [abs(kappa) for record in records for kappa in record.kappa if kappa]
        if decades(kappas, 1e3):
            axes.set_yscale("symlog", linthresh=max(min(kappas), max(kappas) * 1e-6))
            axes.yaxis.set_major_formatter(log_tick)
        axes.axhline(0, color=paint.muted, linewidth=0.8)
        axes.legend()

    return draw


def _pairs(record: ActivationRecord) -> list[tuple[float, float]]:
    count = max(len(record.lambda_), len(record.kappa))
    return [(record.lambda_[i % len(record.lambda_)], record.kappa[i % len(record.kappa)]) for i in range(count)]


def error_plot(errors: Sequence[ActivationError]) -> list[Drawn]:
    """The largest measured errors as bars, the predicted ones as marks, the limits as lines."""
    ranked = worst_first(errors)[:_MOST_BARS]
    if not ranked:
        return []
    alt = f"Error added by activation; the largest is {ranked[0].path} with {ranked[0].measured:.1e}"
    svg = svg_of(_bars(ranked), "errors", alt, height=0.8 + 0.2 * len(ranked))
    more = f"the largest {len(ranked)} of {len(errors)}" if len(errors) > len(ranked) else "all of them"
    marks = ["bar: measured"]
    marks += ["red: above its limit"] if any(e.passed is False for e in ranked) else []
    marks += ["diamond: predicted"] if any(e.predicted for e in ranked) else []
    marks += ["upright line: limit"] if any(e.limit for e in ranked) else []
    return [Drawn(svg, f"Error that each activation adds, ranked, {more}. {'; '.join(marks).capitalize()}.")]


def _bars(ranked: Sequence[ActivationError]) -> Draw:
    def draw(axes: Any, paint: Palette) -> None:
        finite = [e.measured for e in ranked if 0 < e.measured < math.inf] or [1e-12]
        least, most = min(finite) / 4, 100 * max(finite)  # what is no number reaches past every other bar
        for row, error in enumerate(ranked):
            color = paint.bad if error.passed is False else paint.series[0]
            measured = error.measured if math.isfinite(error.measured) else most
            axes.barh(row, max(measured, least), left=0, height=0.62, color=color)
            if error.predicted:
                axes.plot(error.predicted, row, "D", color=paint.ink, markersize=4.5, markeredgecolor=paint.card)
            if error.limit:
                axes.plot([error.limit] * 2, [row - 0.4, row + 0.4], color=paint.muted, linewidth=1.4)
        axes.set_xscale("log")
        axes.set_xlim(left=least)
        plain_log(axes.xaxis)
        axes.set_yticks(range(len(ranked)), [_short(error.path) for error in ranked])
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("relative error")

    return draw


def _short(path: str, most: int = 24) -> str:
    path = printable(path)
    return path if len(path) <= most else "…" + path[-most + 1 :]


def latency_plots(latency: Sequence[Latency]) -> list[list[Drawn]]:
    """For each batch and thread count: a box a series, and the rounds in the order of measuring."""
    drawn = []
    settings = dict.fromkeys((one.batch, one.threads) for one in latency)
    for batch, threads in settings:
        series = [one for one in latency if (one.batch, one.threads) == (batch, threads)]
        setting = f"batch {batch}" + (f", {threads} threads" if threads else "")
        medians = "; ".join(f"{one.name} {one.p50.value:.3g} ms" for one in series)
        svg = svg_of(_boxes(series, setting), f"boxes-{batch}-{threads}", f"Latency at {setting}: {medians}",
                     height=0.9 + 0.45 * len(series))  # fmt: skip
        boxes = Drawn(svg, "Box: quartiles, median line; whiskers p1 to p99; every sample behind it.")
        svg = svg_of(_in_time(series, setting), f"time-{batch}-{threads}", f"Medians in time at {setting}", 2.6)
        drawn.append([boxes, Drawn(svg, "Medians of the rounds, in order: drift would show as a slope.")])
    return drawn


def _boxes(series: Sequence[Latency], setting: str) -> Draw:
    def draw(axes: Any, paint: Palette) -> None:
        samples = [one.samples for one in series]
        rows = list(range(len(series)))
        for row, values in zip(rows, samples, strict=True):
            spread = [row + 0.34 * ((i * 0.618034) % 1 - 0.5) for i in range(len(values))]
            axes.scatter(
                values, spread, s=4, color=paint.series[row % 8], alpha=0.35, linewidths=0, rasterized=False
            )
        boxes = axes.boxplot(samples, positions=rows, orientation="horizontal", widths=0.5, whis=(1, 99),
                             showfliers=False, patch_artist=True)  # fmt: skip
        for row, box in enumerate(boxes["boxes"]):
            box.set(facecolor=paint.series[row % 8], alpha=0.25, edgecolor=paint.series[row % 8])
        for part in ("whiskers", "caps", "medians"):
            for line in boxes[part]:
                line.set(color=paint.ink, linewidth=1.8 if part == "medians" else 0.9)
        if decades(value for values in samples for value in values):
            axes.set_xscale("log")
            plain_log(axes.xaxis)
        axes.set_yticks(rows, [_short(one.name) for one in series])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="ms", title=setting)

    return draw


def _in_time(series: Sequence[Latency], setting: str) -> Draw:
    def draw(axes: Any, paint: Palette) -> None:
        for i, one in enumerate(series):
            medians = [sorted(values)[len(values) // 2] for values in one.rounds if values]
            line = {"color": paint.series[i % 8], "markersize": 3, "linewidth": 1.2}
            axes.plot(range(1, len(medians) + 1), medians, "o-", label=_short(one.name), **line)
        axes.set(xlabel="round", ylabel="ms", title=f"In time, {setting}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if decades(one.p50.value for one in series):
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        else:
            axes.set_ylim(bottom=0)
        axes.legend()

    return draw


def comparison_plot(comparisons: Sequence[Comparison]) -> list[Drawn]:
    """Ratios with their intervals, around the line of equality."""
    if not comparisons:
        return []
    alt = "; ".join(f"{c.name} takes {c.ratio.value:.3f} of {c.baseline}: {c.verdict}" for c in comparisons)
    svg = svg_of(_ratios(comparisons), "ratios", alt, height=0.9 + 0.34 * len(comparisons))
    return [Drawn(svg, "Time relative to the baseline, with 99 % intervals; left of the line is faster.")]


def _ratios(comparisons: Sequence[Comparison]) -> Draw:
    def draw(axes: Any, paint: Palette) -> None:
        colors = {"faster": paint.good, "slower": paint.bad}
        axes.axvline(1, color=paint.muted, linewidth=1)
        for row, one in enumerate(comparisons):
            color = colors.get(one.verdict, paint.muted)
            value, low, high = one.ratio.value, one.ratio.low or one.ratio.value, one.ratio.high or one.ratio.value
            ends = [
                max(low, value / 4),
                min(high, value * 4),
            ]  # a hopelessly wide interval would squeeze the others
            axes.plot(ends, [row, row], color=color, linewidth=3, solid_capstyle="round")
            axes.plot(one.ratio.value, row, "o", color=color, markersize=7, markeredgecolor=paint.card)
        axes.set_yticks(range(len(comparisons)), [f"{_short(c.name, 18)}, {_setting(c)}" for c in comparisons])
        axes.set_ylim(len(comparisons) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="time / baseline's")
        if decades([1.0, *(one.ratio.value for one in comparisons)], 10):
            axes.set_xscale("log")
            plain_log(axes.xaxis)
        axes.spines["left"].set_color(paint.line)

    return draw


def _setting(one: Comparison) -> str:
    return f"batch {one.batch}" + (f", {one.threads} thr." if one.threads else "")


def detection_plots(detected: Sequence[Detected]) -> list[list[Drawn]]:
    """One drawing a runner, a list of them a picture."""
    pictures = dict.fromkeys(one.picture for one in detected)
    return [[_detections(one, i) for i, one in enumerate(detected) if one.picture == name] for name in pictures]


def _detections(one: Detected, number: int) -> Drawn:
    def draw(axes: Any, paint: Palette) -> None:
        from matplotlib.patches import Rectangle

        pixels = np.load(BytesIO(b64decode(one.image)), allow_pickle=False)["pixels"]
        axes.imshow(pixels, extent=(0, one.size[0], one.size[1], 0))
        for (x1, y1, x2, y2), score, label in zip(one.boxes, one.scores, one.labels, strict=True):
            colour = paint.series[label % len(paint.series)]
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.2))
            axes.text(x1, y1, f"{label} {score:.2f}", color=colour, fontsize=7, va="bottom", clip_on=True)
        axes.set_axis_off()

    count = f"{len(one.boxes)} best detections"
    height = min(6.0, WIDTH * one.size[1] / one.size[0])
    alt = f"{one.picture}, {one.runner}: {count}"
    return Drawn(svg_of(draw, f"detected{number}", alt, height), f"{one.picture}, {one.runner}: {count}")
