"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

from typing import Any

from apa_deploy.require import require

_COLOURS = {"passed": "#1a7f37", "failed": "#cf222e", "skipped": "#9a6700"}


def check_page() -> Any:
    """jinja2; raise a `MissingError` where it is not installed."""
    return require("jinja2")


def page(report: dict[str, Any]) -> str:
    """HTML.

    Raises:
        MissingError: jinja2 is not installed.
    """
    jinja2 = check_page()
    environment = jinja2.Environment(autoescape=True)
    environment.filters["cell"] = _cell
    return str(environment.from_string(_PAGE).render(report=report, colours=_COLOURS))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items()) or "-"
    return str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>GPU check</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; font-size: .85rem; } div { overflow-x: auto; }
td, th { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #8886; white-space: nowrap; }
b { padding: .1rem .5rem; border-radius: .3rem; color: #fff; }
</style></head><body>
<h1>GPU check: {{ report.verdict }}</h1>
<p>{{ report.tool }}, {{ report.created }}</p>
<table>{% for key, value in report.machine.items() %}<tr><th>{{ key }}</th><td>{{ value | cell }}</td></tr>
{% endfor %}</table>
{% for part in report.parts %}
<h2>{{ part.part }} <b style="background: {{ colours[part.state] }}">{{ part.state }}</b></h2>
{% if part.reason %}<p>{{ part.reason }}</p>{% endif %}{% if part.do %}<p><code>{{ part.do }}</code></p>{% endif %}
{% if part.rows %}<div><table><tr>{% for key in part.rows[0] %}<th>{{ key }}</th>{% endfor %}</tr>
{% for row in part.rows %}<tr>{% for key in part.rows[0] %}<td>{{ row[key] | cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endif %}
{% for key, value in part.facts.items() if key != "samples" %}<p>{{ key }}: {{ value | cell }}</p>
{% endfor %}{% endfor %}
</body></html>
"""
