"""The learned curves as a picture, and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from .files import replaced
from .inspection import SPAN, Inspected, curve
from .require import require

_ADD = "pip install 'apa-deploy[report]'"
_COLUMNS = 2


def save_plot(records: Sequence[Inspected], path: Path, force: bool = False) -> None:
    """Write the curves as PNG, SVG or PDF, by the suffix.

    Raises:
        MissingError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    with replaced(path, force=force) as temporary:
        _figure(records).savefig(temporary, dpi=150, bbox_inches="tight")


def save_page(records: Sequence[Inspected], title: str, path: Path, force: bool = False) -> None:
    """Write the table and the curves as one HTML file that needs nothing else.

    Raises:
        MissingError: matplotlib or jinja2 is not installed.
        OutputError: the file cannot be written.
    """
    jinja2 = require("jinja2", add=_ADD)
    drawing = StringIO()
    _figure(records).savefig(drawing, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = drawing.getvalue()
    environment = jinja2.Environment(autoescape=True)
    drawn = svg[svg.index("<svg") :]
    page = environment.from_string(_PAGE).render(title=title, headers=HEADERS, rows=table_rows(records), svg=drawn)
    with replaced(path, force=force) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _figure(records: Sequence[Inspected]) -> Any:
    require("matplotlib", add=_ADD)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4))
    for axes, kind in zip(figure.subplots(1, _COLUMNS), ("AGLU", "APA"), strict=True):
        of_kind = [record for record in records if record.kind == kind]
        for record in of_kind:
            z, y = curve(kind, record.parameters)
            axes.plot(z, y, linewidth=0.8, alpha=0.7)
        axes.set_title(f"{kind}, {len(of_kind)} learned", fontsize=10)
        axes.set_xlabel("z")
        axes.set_xlim(-SPAN / 2, SPAN / 2)
        if kind == "AGLU":
            axes.set_ylim(-2, SPAN / 2)
        axes.grid(alpha=0.3)
    return figure


def describe_values(values: Sequence[float]) -> str:
    """One value, or the span of several channels."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{min(values):.3g} .. {max(values):.3g} ({len(values)})"


def describe_error(error: float) -> str:
    """An error in two digits; NaN as such."""
    return "NaN" if error != error else f"{error:.1e}"


def table_rows(records: Sequence[Inspected]) -> list[list[str]]:
    """The cells of the table, a row an activation; HEADERS names them."""
    return [
        [
            r.path,
            r.kind,
            r.floor,
            describe_values(r.parameters.lambda_),
            describe_values(r.parameters.kappa),
            r.form,
            *(describe_error(e) for e in r.half_errors.values()),
        ]
        for r in records
    ]


HEADERS = (
    "activation", "kind", "floor", "lambda", "kappa", "form", "fp16 throughout", "fp16 here", "bf16 throughout",
    "bf16 here",
)  # fmt: skip

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; font-size: .85rem; } div { overflow-x: auto; }
td, th { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #8886; white-space: nowrap; }
svg { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }
</style></head><body>
<h1>{{ title }}</h1>
<p>{{ rows | length }} learned activations. Errors: largest absolute error for z within +-12, of the usual formula
computed in the half type throughout, and of the forms that apa-deploy exports.</p>
<div>{{ svg | safe }}</div>
<div><table><tr>{% for h in headers %}<th>{{ h }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
</body></html>
"""
