"""The report of `apa-inspect`, its table, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..graph.decompose import decomposition_of
from ..graph.sites import ActivationSite
from ..inspection import half_errors
from ..maths import GATE, UNIT
from ..records.passport import FileRecord, record_activation, versions
from .drawing import save_picture
from .plots import curves
from .record import KeyFigure, Report, Table
from .wording import exact, span

HEADERS = (
    "activation", "kind", "floor", "lambda", "kappa", "form", "fp16 throughout", "fp16 here", "bf16 throughout",
    "bf16 here",
)  # fmt: skip
_ERRORS = (
    "Largest absolute error for z within +-12: of the usual formula computed in the half type throughout, and of "
    "the forms that apa-deploy exports."
)


def inspection_report(records: Sequence[ActivationSite], source: FileRecord, command: str) -> Report:
    """Curves, parameters and predicted half-precision errors of the file `source`."""
    in_half = [[row[0], *row[6:]] for row in inspection_rows(records)]
    errors = Table(title="Half precision", headers=["activation", *HEADERS[6:]], rows=in_half, note=_ERRORS)
    at_limit = sum(decomposition_of(one.parameters) == "limit" for one in records)
    return Report(
        title=f"Activations of {source.name}",
        figures=[
            *(KeyFigure(label=kind, value=str(sum(r.kind == kind for r in records))) for kind in (UNIT, GATE)),
            KeyFigure(label="at the limit", value=str(at_limit), note="lambda too small to matter"),
        ],
        curves=[record_activation(one) for one in records],
        tables=[errors] if records else [],
        versions=versions(("torch", "onnx", "numpy")),
        sources=[source],
        commands=[command],
    )


def inspection_rows(records: Sequence[ActivationSite]) -> list[list[str]]:
    """The cells of the table, a row an activation; HEADERS names them."""
    return [
        [
            r.path,
            r.kind,
            r.floor,
            span(r.parameters.lambda_),
            span(r.parameters.kappa),
            decomposition_of(r.parameters),
            *(exact(error) for error in half_errors(r.kind, r.parameters).values()),
        ]
        for r in records
    ]


def save_plot(records: Sequence[ActivationSite], path: Path, force: bool = False) -> None:
    """Write the curves as PNG, SVG or PDF, by the suffix.

    Raises:
        MissingError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    kept = [record_activation(one) for one in records]
    save_picture(
        [curves(kind, [one for one in kept if one.kind == kind]) for kind in (UNIT, GATE)], path, force=force
    )
