"""Figures as SVG that follows the page: every colour becomes a CSS variable, every text the page's font.

matplotlib paints with placeholder colours; `svg_of` swaps them for `var(--...)`, so that one drawing serves the
light and the dark page.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from ..escaping import printable
from ..files import replace_file
from ..require import require


@dataclass(frozen=True)
class Palette:
    """The colours of a drawing."""

    ink: str
    muted: str
    line: str
    card: str
    good: str
    bad: str
    series: tuple[str, ...]


# Colours that matplotlib never makes itself, so that they can be found in the SVG again.
_PLACEHOLDERS = Palette(
    "#010101", "#010102", "#010103", "#010104", "#010105", "#010106", tuple(f"#0102{i:02x}" for i in range(8))
)  # fmt: skip
# For pictures that stand alone; the light page's own.
LIGHT = Palette(
    "#14171f", "#565d6b", "#dfe2e9", "#ffffff", "#12744a", "#b3261e",
    ("#3653c9", "#c2571a", "#12805c", "#a03a8c", "#8a6d00", "#0f7a99", "#7a4bd0", "#b0304f"),
)  # fmt: skip
Draw = Callable[[Any, Palette], None]


def _style(palette: Palette) -> Any:
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name may hold dollar signs; ticks of log axes are words of ours (`plain_log`)
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": palette.ink,
        "axes.labelcolor": palette.muted,
        "axes.edgecolor": palette.line,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlecolor": palette.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.line,
        "grid.linewidth": 0.7,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.dpi": 150,
    } | {f"{axis}tick.{size}.size": 0 for axis in "xy" for size in ("major", "minor")}


WIDTH = 4.4  # inches, about the width of a phone: the text keeps its size there


@dataclass(frozen=True)
class Drawn:
    """An SVG element and the line below it."""

    svg: str
    caption: str


def svg_of(draw: Draw, name: str, alt: str, height: float = 3.4) -> str:
    """The SVG element that `draw(axes, palette)` makes.

    Args:
        name: distinguishes the ids of this drawing from those of others on the page.
        alt: what it shows, for those who cannot see it.
        height: in inches; the width is WIDTH.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    with _quiet(_style(_PLACEHOLDERS) | {"svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.subplots(), _PLACEHOLDERS)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _apply_theme(text.getvalue(), alt)


def save_picture(draws: Sequence[Draw], path: Path, *, force: bool = False) -> None:
    """Drawings side by side as PNG, SVG or PDF, by the suffix, on white.

    Raises:
        MissingError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    with replace_file(path, force=force) as temporary, _quiet(_style(LIGHT)):
        figure = Figure(figsize=(WIDTH * len(draws), 3.8), layout="constrained", facecolor="white")
        for draw, axes in zip(draws, figure.subplots(1, len(draws), squeeze=False)[0], strict=True):
            draw(axes, LIGHT)
        figure.savefig(temporary)


@contextmanager
def _quiet(style: Any) -> Iterator[None]:
    """matplotlib in `style`, without warnings: a letter that its font lacks is drawn by the browser's."""
    from matplotlib import rc_context

    logger = logging.getLogger("matplotlib")
    level = logger.level
    with rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def plain_log(axis: Any) -> None:
    """Put a logarithmic axis in words that need no formula: 1e-06, 0.1, 10."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_major_formatter(log_tick)
    axis.set_minor_formatter(NullFormatter())


def log_tick(value: float, _: int) -> str:
    """The word at a tick of a logarithmic axis."""
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.0e}"


def decades(values: Iterable[float], least: float = 30.0) -> bool:
    """Whether positive values spread so far that only a logarithmic axis shows them all."""
    kept = [value for value in values if 0 < value < math.inf]
    return bool(kept) and max(kept) / min(kept) > least


def _apply_theme(svg: str, alt: str) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for field in fields(Palette):
        colors = getattr(_PLACEHOLDERS, field.name)
        for i, color in enumerate([colors] if isinstance(colors, str) else colors):
            svg = svg.replace(color, f"var(--{field.name})" if isinstance(colors, str) else f"var(--series-{i})")
    svg = svg.replace("'DejaVu Sans'", "inherit").replace("DejaVu Sans", "inherit")
    svg = _only_used_ids(svg)
    size = re.search(r'viewBox="([^"]*)"', svg)
    opening = f'<svg viewBox="{size[1] if size else ""}" role="img" aria-label="{escape(printable(alt))}"'
    return re.sub(r"<svg[^>]*", lambda _: opening, svg, count=1)


def _only_used_ids(svg: str) -> str:
    """Without the ids that nothing refers to: matplotlib gives every figure the same ones."""
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
