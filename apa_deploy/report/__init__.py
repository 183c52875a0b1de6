"""One record of what was found, as one HTML page, Markdown or JSON."""

from __future__ import annotations

from .record import Accuracy, ActivationError, Compared, KeyFigure, Limit, Report, ReportVerdict, Table
from .write import FORMATS, check_report_path, read_report, write_report

__all__ = [
    "FORMATS",
    "Accuracy",
    "ActivationError",
    "Compared",
    "KeyFigure",
    "Limit",
    "Report",
    "ReportVerdict",
    "Table",
    "check_report_path",
    "read_report",
    "write_report",
]
