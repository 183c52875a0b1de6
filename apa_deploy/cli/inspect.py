"""`apa-inspect`: what a checkpoint or an ONNX file learned, activation by activation."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records.passport import file_record
from ..report import check_report_path, write_report
from .common import add_report, print_json, run_verb, shape_of, verb_parser, wide_console
from .model_options import add_loading, loading_of

if TYPE_CHECKING:
    from ..graph.sites import ActivationSite


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-inspect`; returns the exit code."""
    return run_verb(_parser(), _inspect, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("apa-inspect", __doc__ or "")
    parser.add_argument("file", metavar="MODEL", type=Path, help="checkpoint or .onnx")
    parser.add_argument("--plot", metavar="PNG", type=Path, help="draw the learned curves")
    add_report(parser)
    parser.add_argument("--force", action="store_true", help="replace existing files")
    loading = parser.add_argument_group("loading")
    add_loading(loading)
    loading.add_argument(
        "--input-shape", metavar="CxHxW", type=shape_of, help="input of your own network, e.g. 3x224x224"
    )
    return parser


def _inspect(options: argparse.Namespace) -> int:
    from ..inspection import inspect_file
    from ..report.inspection import inspection_report, save_plot

    check_report_path(options.report, force=options.force)
    records = inspect_file(options.file, input_shape=options.input_shape, **loading_of(options))
    if options.plot:
        save_plot(records, options.plot, options.force)
    if options.report:
        report = inspection_report(records, file_record(options.file), options.command)
        write_report(report, options.report, force=options.force)
    if options.json:
        print_json([_as_json(record) for record in records])
    else:
        _print_table(records, options.file.name)
    return 0


def _print_table(records: list[ActivationSite], name: str) -> None:
    from ..report.inspection import HEADERS, inspection_rows
    from ..report.wording import FORMS

    console = wide_console()
    console.table(HEADERS, inspection_rows(records), f"{name}: {len(records)} learned activations")
    if records:
        console.print(FORMS)


def _as_json(site: ActivationSite) -> dict[str, Any]:
    from ..inspection import half_errors
    from ..records.passport import record_activation

    errors = half_errors(site.kind, site.parameters)
    return {
        **record_activation(site).model_dump(by_alias=True),
        # JSON has no NaN: null
        "half_errors": {k: None if math.isnan(v) else v for k, v in errors.items()},
    }
