"""A report as HTML or Markdown, through the templates beside this file."""

from __future__ import annotations

from pathlib import Path

from ..escaping import in_markdown, printable
from ..require import require
from .record import Report
from .sections import sections
from .wording import DASH, description

_TEMPLATES = Path(__file__).with_name("templates")


def check_report_packages(*, drawing: bool) -> None:
    """Raise `MissingError` where a package that rendering needs is absent; `drawing`: matplotlib as well."""
    require("jinja2")
    if drawing:
        require("matplotlib")


def as_html(report: Report) -> str:
    """One page that loads nothing else: styles and figures are inside."""
    return _render("page.html.j2", report, drawn=True)


def as_markdown(report: Report) -> str:
    """The same without figures, in GitHub's Markdown."""
    return _render("report.md.j2", report, drawn=False)


def _render(template: str, report: Report, *, drawn: bool) -> str:
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
    )
    environment.filters |= {"cell": markdown_cell, "plain": in_markdown}
    page = environment.get_template(template)
    shown = [(s.title, [(type(b).__name__, b) for b in s.blocks]) for s in sections(report, drawn=drawn)]
    return str(page.render(report=report, description=description(report), sections=shown))


def _finalize(value: object) -> object:
    """Every value that a template shows, before it is escaped; what is markup already is left alone."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def markdown_cell(value: object) -> str:
    """A cell of a Markdown table; a verdict in a word."""
    if value is None or isinstance(value, bool):
        return {None: DASH, True: "passed", False: "**failed**"}[value]
    return DASH if value == DASH else in_markdown(str(value))
