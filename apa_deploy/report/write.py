"""Write a report as HTML, Markdown or JSON, by the suffix of the file; read the JSON back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import InputError
from ..files import refuse_existing, replace_file
from .record import SCHEMA, Report

FORMATS = (".html", ".md", ".json")


class ReportError(InputError):
    """A report cannot be read. `path`."""

    def __init__(self, path: Path, saw: str) -> None:
        super().__init__(f"{path}: {saw}", f"a report of schema version {SCHEMA}", "Write it again with --report.")
        self.path = path


def check_report_path(path: Path | None, *, force: bool = False) -> None:
    """Refuse a path that `write_report` would refuse: call it before long work.

    Raises:
        InputError: the suffix is unknown, the file exists without `force`.
        MissingError: jinja2 or matplotlib is wanted and not installed.
    """
    if path is None:
        return
    if path.suffix not in FORMATS:
        raise InputError(f"--report {path.name}", f"a name that ends in {', '.join(FORMATS)}", "Rename it.")
    refuse_existing(path, force=force)
    if path.suffix != ".json":
        from .render import check_report_packages

        check_report_packages(drawing=path.suffix == ".html")


def write_report(report: Report, path: Path, *, force: bool = False) -> None:
    """Write `report` to `path`: .html (one self-contained page), .md or .json.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
        MissingError: jinja2 or matplotlib is not installed.
    """
    check_report_path(path, force=force)
    text = _text(report, path.suffix)
    with replace_file(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_report(path: Path) -> Report:
    """The report at `path`, a .json file.

    Raises:
        ReportError: it is absent, damaged or of another schema version.
    """
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(path, error.strerror or "unreadable") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ReportError(path, str(error).splitlines()[0]) from error


def _text(report: Report, suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(_finite(report.model_dump(by_alias=True)), indent=2) + "\n"
    from .render import as_html, as_markdown

    return as_html(report) if suffix == ".html" else as_markdown(report)


def _finite(value: Any) -> Any:
    """`value` with "NaN", "inf" and "-inf" as strings, which JSON has no numbers for and pydantic reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
