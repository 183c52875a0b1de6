"""`apa-export`: a trained model goes in, a deployable and verified artifact comes out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apa_deploy.choices import FP8, INT8
from apa_deploy.cli.common import add_report, print_json, run_verb, shape_of, verb_parser, wide_console
from apa_deploy.cli.model_options import add_deployment, add_loading, deployment_of, loading_of
from apa_deploy.errors import InputError
from apa_deploy.files import PASSPORT_SUFFIX
from apa_deploy.terminal import Terminal

from .options import read_options
from .registry import TARGETS, add_target_options, refuse_for_exported, refuse_options_of_others
from .target import ExportSource, Outcome, Target
from .tensorrt.options import AUTO

if TYPE_CHECKING:
    from apa_deploy.network import Network
    from apa_deploy.records.passport import EngineBuild, Passport
    from apa_deploy.records.quantisation import QuantisationRecord
    from apa_deploy.report import Report

# What is told of any export, whatever its source.
_GENERAL = ("checkpoint", "format", "output", "force", "debug", "json", "command")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-export`; returns the exit code."""
    return run_verb(_parser(), _export, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("apa-export", __doc__ or "")
    source_help = ".pth, .pt, .safetensors, or .onnx of any tool (triton: any exported file)"
    parser.add_argument("checkpoint", metavar="MODEL", type=Path, help=source_help)
    parser.add_argument("--format", choices=tuple(TARGETS), help="(default: onnx; onnx-custom with int8)")
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: MODEL's name, here)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    add_report(parser)
    loading = parser.add_argument_group("loading")
    add_loading(loading)
    shape_help = "e.g. 3x224x224; other ranks for .onnx"
    loading.add_argument("--input-shape", metavar="CxHxW", type=shape_of, help=shape_help)
    loading.add_argument(
        "--explain", action="store_true", help="for an .onnx: list what was recognised, and what not"
    )
    add_deployment(parser.add_argument_group("built into the graph"))
    add_target_options(parser)
    return parser


def _export(options: argparse.Namespace) -> int:
    given = _given_options(options)
    options.format = options.format or ("onnx-custom" if given.get("precision") == INT8 else "onnx")
    target = TARGETS[options.format]
    _refuse_options_of_others(given, target, options.checkpoint)
    output = options.output or _default_output(options.checkpoint, target)
    _check_paths(output, target, options)
    from apa_deploy.records.parity import ParityError
    from apa_deploy.report.export import export_report, report_of_gate

    source = ExportSource(options.checkpoint, lambda: _load(options))
    try:
        outcome = target.export(source, output, read_options(target.options, given))
    except ParityError as error:
        if options.json:
            print_json(error.report)
        _write_report(report_of_gate(error.report, output.name, options.command), options)
        raise
    if outcome.passport:
        _write_report(export_report(outcome.passport, options.command), options)
    _show(outcome, options.json)
    return 0


def _show(outcome: Outcome, as_json: bool) -> None:
    from apa_deploy.records.passport import dump

    if as_json and outcome.document:
        print_json(outcome.document())
    elif as_json and outcome.passport:
        print_json(dump(outcome.passport).removesuffix("\n"))
    else:
        if outcome.passport and not outcome.document:
            summarise(outcome.passport, outcome.path)
        elif outcome.passport:
            for line in quantisation_lines(outcome.passport.quantisation):
                wide_console().print(line)
        for line in outcome.lines():
            wide_console().print(line)


def _given_options(options: argparse.Namespace) -> dict[str, object]:
    """What was written, by its name; an option of a target has no default in the parser."""
    parser = _parser()
    return {name: value for name, value in vars(options).items() if value != parser.get_default(name)}


def _refuse_options_of_others(given: dict[str, object], target: Target, source: Path) -> None:
    repack = target.takes_as_it_is(source)
    refuse_options_of_others(given, target, repack=repack)
    for name, value in given.items():
        if repack and name not in _GENERAL and not target.takes(name, value, repack=True):
            refuse_for_exported(f"--{name.replace('_', '-')}")


def _check_paths(output: Path, target: Target, options: argparse.Namespace) -> None:
    suffix = Path("x" + target.suffix).suffix
    if not target.folder and output.suffix != suffix:
        raise InputError(f"-o {output}", f"a name that ends in {suffix}", "Runtimes choose their reader by it.")
    if output.resolve() == options.checkpoint.resolve():
        raise InputError(f"-o {output}", "another file than the source", "Choose another name.")
    if options.report:
        from apa_deploy.report import check_report_path

        check_report_path(options.report, force=options.force)
        passport = output.with_name(output.name + PASSPORT_SUFFIX)
        if options.report.resolve() in (output.resolve(), passport.resolve()):
            saw = f"--report {options.report}"
            raise InputError(saw, "another file than the artifact's own", "Choose another name.")


def _default_output(source: Path, target: Target) -> Path:
    """Never the name of the source itself."""
    mark = ".apa" if source.suffix == target.suffix else ""
    stem = source.name.split(".")[0] if target.folder else source.stem
    return Path(stem + mark + target.suffix)


def _load(options: argparse.Namespace) -> Network:
    from apa_deploy.deployment import deploy
    from apa_deploy.loading.load import load
    from apa_deploy.progress import notice
    from apa_deploy.runtimes.ort_session import use_libraries

    use_libraries(vars(options).get("ort_library", ()))  # no default: see `_given_options`
    network = load(options.checkpoint, input_shape=options.input_shape, **loading_of(options))
    if options.explain:
        for line in network.explain():
            notice(line)
    if network.metadata.detector:
        _refuse_for_detector(options)
    return deploy(network, deployment_of(options))


def _refuse_for_detector(options: argparse.Namespace) -> None:
    """What is not made of a whole detector, before minutes of work."""
    if getattr(options, "precision", None) in (INT8, FP8, AUTO) and options.format in ("trt", "trt-rtx"):
        saw = f"--precision {options.precision} with a whole detector in --format {options.format}"
        do = "Export it in a half type, or its backbone alone in 8 bits (--detector backbone)."
        raise InputError(saw, "8 bits for onnx-custom, onnx or triton", do)


def _write_report(report: Report, options: argparse.Namespace) -> None:
    if options.report:
        from apa_deploy.report import write_report

        write_report(report, options.report, force=options.force)


def summarise(passport: Passport, output: Path) -> None:
    """Print what was made and how it was judged, for people."""
    console = wide_console()
    size = sum(record.bytes for record in passport.outputs) / 1e6
    forms = [record.form for record in passport.activations]
    counts = ", ".join(f"{forms.count(form)} {form}" for form in dict.fromkeys(forms)) or "none"
    number = f"{len(forms)} activation{'' if len(forms) == 1 else 's'}"
    console.print(f"{output}: {passport.architecture}, {size:.1f} MB, {number} ({counts})")
    if passport.build:
        _summarise_build(console, passport.build, str(passport.options.get("precision")))
    for line in quantisation_lines(passport.quantisation):
        console.print(line)
    if passport.parity is None or not passport.is_judged:
        console.print("not verified (--no-verify)")
        return
    least = "stored in the type" if passport.parity.outputs[0].stored_max_rel else "torch float32's"
    headers = ("output", "runtime", "max error", least, "limit", "cosine", "top-1")
    rows = []
    for check in passport.parity.outputs:
        top1 = "-" if check.top1_agreement is None else f"{check.top1_agreement:.0%}"
        figures = (
            f"{v:.1e}" for v in (check.max_rel, check.stored_max_rel or check.torch_float32_max_rel, check.limit)
        )
        rows.append([check.name, check.runner, *figures, f"{check.cosine:.9f}", top1])
    from apa_deploy.records.parity import gain_line

    console.table(headers, rows, "parity, relative")
    for check in passport.parity.outputs:
        if check.gains:
            console.print(gain_line(check))
    for d in passport.parity.detections:
        limit = "" if d.least_precision is None else f" (limit {d.least_precision:.4f})"
        console.print(
            f"detections ({d.runner}): {d.matched} of {d.reference} found again, {d.excused} excused; boxes "
            f"{d.box_error:.1e} pixels, scores {d.score_error:.1e} off; average precision "
            f"{d.average_precision:.4f}{limit}"
        )
    if passport.parity.activations:
        worst = max(passport.parity.activations, key=lambda check: check.max_error)
        console.print(
            f"each activation alone: at most {worst.max_error:.1e} off ({worst.path}), limit {worst.limit:.0e}"
        )
    console.print("verified against the float64 module")


def quantisation_lines(record: QuantisationRecord | None) -> Iterator[str]:
    """What 8 bits cost, for people."""
    if record is None:
        return
    bits = "7-bit" if record.reduced else "8-bit"
    counts = f"{len(record.layers)} layers ({bits} weights), {len(record.activations)} activations"
    yield f"{record.precision}: {counts}, {len(record.kept)} stay float32"
    quality = record.quality
    if quality is None:
        return
    for name, value in quality.sqnr.items():
        same = f", top-1 as float32 {quality.agreement[name]:.1%}" if name in quality.agreement else ""
        limit = quality.limits["sqnr"]
        yield f"{name}: {value:.1f} dB (limit {limit:g}){same}; on {quality.samples} held-back samples"
    if d := quality.detections:
        noise = f"noise of {quality.limits['sqnr']:g} dB in the neck's maps"
        yield (
            f"detections in {d.pictures} held-back pictures: average precision {d.average_precision:.4f} against "
            f"float64's (limit {d.limit:.4f}, what {noise} leaves)"
        )
    if quality.accuracy:
        yield f"accuracy {quality.accuracy[1]:.1%}, from {quality.accuracy[0]:.1%}"
    worst = sorted(quality.layers, key=lambda layer: layer.sqnr)[:3]
    yield "weakest layers alone: " + ", ".join(f"{layer.name} {layer.sqnr:.1f} dB" for layer in worst)


def _summarise_build(console: Terminal, build: EngineBuild, precision: str) -> None:
    target = f"compute capability {', '.join(build.capabilities) or '8.0 and later'}"
    console.print(
        f"{build.builder}, {target}, batch {':'.join(map(str, build.batches))}: {build.seconds:.1f} s, peak memory "
        f"{build.peak_memory_bytes / 1e6:.0f} MB, {sum(build.launches.values())} kernel launches"
    )
    console.print(build.note)
    if build.activation:
        chosen = len({candidate.precision for candidate in build.candidates}) > 1
        console.print(f"{precision}, " * chosen + f"activation {build.activation}: {build.reason}")


if __name__ == "__main__":
    sys.exit(main())
