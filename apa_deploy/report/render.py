"""A report as HTML or Markdown, through the templates beside this file."""

from __future__ import annotations

from pathlib import Path

from ..require import require
from .record import Report
from .sections import sections
from .wording import DASH, description

_TEMPLATES = Path(__file__).with_name("templates")


def check_packages(*, drawing: bool) -> None:
    """Raise `MissingError` where a package that rendering needs is absent; `drawing`: matplotlib as well."""
    require("jinja2")
    if drawing:
        require("matplotlib")


def as_html(report: Report) -> str:
    """One page that loads nothing else: styles and figures are inside."""
    return _rendered("page.html.j2", report, drawn=True)


def as_markdown(report: Report) -> str:
    """The same without figures, in GitHub's Markdown."""
    return _rendered("report.md.j2", report, drawn=False)


def _rendered(template: str, report: Report, *, drawn: bool) -> str:
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cell": markdown_cell, "plain": markdown_text}
    page = environment.get_template(template)
    shown = [(s.title, [(type(b).__name__, b) for b in s.blocks]) for s in sections(report, drawn=drawn)]
    return str(page.render(report=report, description=description(report), sections=shown))


def markdown_cell(value: object) -> str:
    """Text that cannot break a Markdown table; a verdict in a word."""
    if value is None or isinstance(value, bool):
        return {None: DASH, True: "passed", False: "**failed**"}[value]
    return markdown_text(value).replace("|", "\\|").replace("\n", " ")


def markdown_text(value: object) -> str:
    """Text that Markdown does not take for HTML."""
    return str(value).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
