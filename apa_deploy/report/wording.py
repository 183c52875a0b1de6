"""How figures are worded: the same in HTML and Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..records.benchmark import Interval
from .record import Report

DASH = "-"
FORMS = (
    "form, how an export writes it: sigmoid where lambda is 1; limit, Exp(-Exp(-kappa z)), where lambda is at most "
    "1e-7; anl else: Exp(-|t|) with t = ln(lambda) - kappa z, and a polynomial for log1p"
)
_UNITS = ("B", "kB", "MB", "GB", "TB")


def exact(value: float | None, digits: int = 2) -> str:
    """An error or a limit: `1.2e-06`, `0.999`, `0`, `NaN`, or a dash for None."""
    if value is None:
        return DASH
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite"
    if 0.1 <= abs(value) < 1e4:
        return f"{value:.4g}"
    return "0" if value == 0 else f"{value:.{digits - 1}e}"


def amount(count: float) -> str:
    """A number of bytes: `12.3 MB`."""
    size, unit = float(count), 0
    while size >= 1000 and unit + 1 < len(_UNITS):
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"


def interval(value: Interval, digits: int = 3) -> str:
    """`12.3 [12.1, 12.6]`; the estimate alone where no interval could be formed."""
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}g}"
    return f"{value.value:.{digits}g} [{value.low:.{digits}g}, {value.high:.{digits}g}]"


def span(values: Sequence[float]) -> str:
    """One value, or the span of several channels."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{min(values):.3g} .. {max(values):.3g} ({len(values)})"


def facts(report: Report) -> list[tuple[str, str]]:
    """The machine and the versions, as names and values."""
    rows: list[tuple[str, str]] = []
    if one := report.environment:
        rows += [
            ("processor", one.cpu),
            ("usable cores", str(one.cores)),
            ("frequency governor", one.governor),
            ("memory", amount(one.memory_bytes)),
            ("GPU", one.gpu),
            ("load before and after", f"{one.load[0]:.2f}, {one.load[1]:.2f}"),
            *one.variables.items(),
        ]
    known = (report.environment.versions if report.environment else {}) | report.versions
    return rows + list(known.items())


def description(report: Report) -> str:
    """One sentence for link previews and for those who cannot see the page."""
    if report.verdict:
        return report.verdict.summary
    return ", ".join(one.name for one in report.compared) or report.title


def times(ratio: float) -> str:
    """A ratio as people say it: `1.3 times`, `171 times`, `3.2e+06 times`."""
    if not math.isfinite(ratio):
        return "endless times"
    return f"{ratio:.2g} times" if ratio < 10 else f"{ratio:.0f} times" if ratio < 1e5 else f"{ratio:.1e} times"


def list_names(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 6 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
