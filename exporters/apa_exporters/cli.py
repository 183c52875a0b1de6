"""`apa-export`: a trained model goes in, a deployable and verified artifact comes out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from apa_deploy.cli.common import add_report, run_verb, verb_parser, wide_console
from apa_deploy.cli.model_options import add_deployment, add_loading, deployment_of, loading_of, shape_of
from apa_deploy.deployment import deployed
from apa_deploy.errors import InputError
from apa_deploy.graph.decompose import FORMS
from apa_deploy.graph.precision import PRECISIONS
from apa_deploy.loading.load import Model, load
from apa_deploy.loading.onnx_network import OriginalGraph
from apa_deploy.parity.report import ParityError
from apa_deploy.progress import notice
from apa_deploy.records.passport import EngineBuild, Passport, dump, passport_path
from apa_deploy.report import Report, check_report_path, write_report
from apa_deploy.report.export import export_report, judged_report

from .onnx.export import FORMATS, OnnxOptions, custom_library, export_onnx
from .onnx.from_onnx import explained, speed_up
from .tensorrt.arguments import add_trt_options, given_trt_options, made_trt, trt_options
from .tensorrt.export import FORMAT as TRT
from .tensorrt_rtx.export import BATCHES, RtxOptions, export_rtx
from .tensorrt_rtx.export import FORMAT as RTX
from .triton import arguments as triton_cli
from .triton.export import FORMAT as TRITON

_SUFFIX = {"onnx": ".onnx", "onnx-custom": ".custom.onnx", RTX: ".engine", TRT: ".engine"}
_ENGINES = (TRT, RTX)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-export`; returns the exit code."""
    return run_verb(_parser(), _export, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("apa-export", __doc__ or "")
    source_help = ".pth, .pt, .safetensors, or anybody's .onnx (triton: any artifact)"
    parser.add_argument("checkpoint", metavar="MODEL", type=Path, help=source_help)
    parser.add_argument(
        "--format", choices=(*FORMATS, *_ENGINES, TRITON), default="onnx", help="what to make (default: onnx)"
    )
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: MODEL's name, here)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    add_report(parser)
    add_loading(parser.add_argument_group("loading"))
    _add_graph(parser.add_argument_group("graph"))
    add_deployment(parser.add_argument_group("baked into the graph"))
    _add_engine(parser.add_argument_group(f"engine ({', '.join(_ENGINES)})"))
    add_trt_options(parser.add_argument_group(f"engine ({TRT})"))
    triton_cli.add_options(parser.add_argument_group(f"repository ({TRITON})"))
    _add_verification(parser.add_argument_group("verification"))
    return parser


def _add_graph(group: argparse._ArgumentGroup) -> None:
    shape_help = "e.g. 3x224x224; other ranks for .onnx"
    group.add_argument("--input-shape", metavar="CxHxW", type=shape_of, help=shape_help)
    group.add_argument(
        "--batch", type=_batch, metavar="N|MIN:OPT:MAX", help="fixed batch (default: dynamic; engines 1:8:32)"
    )
    group.add_argument("--opset", type=int, default=18, help="18 (default) to 23")
    group.add_argument("--explain", action="store_true", help="of an .onnx: say what was recognised, and what not")
    group.add_argument("--decomposition", choices=FORMS, default="anl", help="form of ordinary activations")
    group.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the graph (default: fp32)")
    group.add_argument("--half-io", action="store_true", help="inputs and outputs in that precision too")


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--compute-capability",
        metavar="8.6,8.9",
        type=_capabilities,
        default=(),
        help=f"{RTX} (default: 8.0 and later)",
    )
    group.add_argument("--strip-weights", action="store_true", help="leave the weights out; needs a GPU")


def _add_verification(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--no-verify", action="store_true", help="skip the parity gate")
    group.add_argument("--inputs", type=Path, metavar="NPZ", help="verify on these: an array an input, by its name")


def _batch(text: str) -> int | tuple[int, int, int]:
    match = re.fullmatch(r"(\d+)(?::(\d+):(\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a size, or MIN:OPT:MAX for an engine, e.g. 1:8:32")
    return (int(match[1]), int(match[2]), int(match[3])) if match[2] else int(match[1])


def _capabilities(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not all(re.fullmatch(r"\d+\.\d", one) for one in found):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted e.g. 8.6,8.9,12.0")
    return found


def _export(options: argparse.Namespace) -> int:
    triton_cli.check_unused(options, _parser())
    check_report_path(options.report, force=options.force)
    if options.format == TRITON:
        return triton_cli.export(options, lambda path: _reported(_made(_loaded(options), path, options), options))
    output = options.output or _default_output(options.checkpoint, options.format)
    suffix = Path("x" + _SUFFIX[options.format]).suffix
    if output.suffix != suffix:
        raise InputError(f"-o {output}", f"a name that ends in {suffix}", "Runtimes choose their reader by it.")
    _check_engine_options(options)
    if output.resolve() == options.checkpoint.resolve():
        raise InputError(f"-o {output}", "another file than the source", "Choose another name.")
    if options.report and options.report.resolve() in (output.resolve(), passport_path(output).resolve()):
        raise InputError(
            f"--report {options.report}", "another file than the artifact's own", "Choose another name."
        )
    model = _loaded(options)
    try:
        passport = _made(model, output, options)
    except ParityError as error:
        if options.json:
            print(error.report.model_dump_json(indent=2))
        _write_report(judged_report(error.report, output.name, options.command), options)
        raise
    _reported(passport, options)
    if options.json:
        print(dump(passport), end="")
    else:
        summarise(passport, options.bundle or output)
        _say_speed_up(model, output, options)
    return 0


def _loaded(options: argparse.Namespace) -> Model:
    model = load(options.checkpoint, input_shape=options.input_shape, **loading_of(options))
    if options.explain:
        _explain(model)
    _check_graph_options(model, options)
    return deployed(model, deployment_of(options))


def _reported(passport: Passport, options: argparse.Namespace) -> None:
    _write_report(export_report(passport, options.command), options)


def _write_report(report: Report, options: argparse.Namespace) -> None:
    if options.report:
        write_report(report, options.report, force=options.force)


def _made(model: Model, output: Path, options: argparse.Namespace) -> Passport:
    graph = OnnxOptions(
        format="onnx-custom" if options.format == TRITON else options.format,
        opset=options.opset,
        batch=options.batch if options.format in FORMATS else None,
        decomposition=options.decomposition,
        precision=options.precision,
        half_io=options.half_io,
        verify=not options.no_verify,
        inputs=options.inputs,
        force=options.force,
    )
    if options.format == RTX:
        batches, capabilities = _batches(options), options.compute_capability
        return export_rtx(model, output, RtxOptions(graph, batches, capabilities, options.strip_weights))
    if options.format == TRT:
        return made_trt(model, output, trt_options(graph, _batches(options), options), options)
    return export_onnx(model, output, graph)


def _batches(options: argparse.Namespace) -> tuple[int, int, int]:
    batch = options.batch or BATCHES
    return (batch, batch, batch) if isinstance(batch, int) else batch


def _check_engine_options(options: argparse.Namespace) -> None:
    """Options that only an engine has, or one kind of engine."""
    profile = isinstance(options.batch, tuple)
    owners: dict[str, tuple[object, tuple[str, ...]]] = {
        name: (given, (TRT,)) for name, given in given_trt_options(options).items()
    }
    owners["--compute-capability"] = (options.compute_capability, (RTX,))
    owners["--batch MIN:OPT:MAX"] = (profile, _ENGINES)
    owners["--strip-weights"] = (options.strip_weights, _ENGINES)
    for name, (given, formats) in owners.items():
        if given and options.format not in formats:
            wanted = " or ".join(f"--format {format}" for format in formats)
            raise InputError(f"{name} with --format {options.format}", wanted, "Leave it out.")


def _check_graph_options(model: Model, options: argparse.Namespace) -> None:
    """Options that change a torch module before it is traced; a graph is exported as it is."""
    given = [f"--{name}" for name in ("preprocess", "iif", "softmax") if getattr(options, name)]
    if given and isinstance(model.module, OriginalGraph):
        saw = f"{given[0]} with {model.metadata.source}"
        raise InputError(saw, "a checkpoint", "Put it into the network before it is exported to that file.")


def _default_output(source: Path, format: str) -> Path:
    """Never the name of the source itself."""
    mark = ".apa" if source.suffix == ".onnx" and _SUFFIX[format] == ".onnx" else ""
    return Path(source.stem + mark + _SUFFIX[format])


def _explain(model: Model) -> None:
    if not isinstance(model.module, OriginalGraph):
        raise InputError("--explain with a checkpoint", "an .onnx file", "Leave it out.")
    for line in explained(model):
        notice(line)


def _say_speed_up(model: Model, output: Path, options: argparse.Namespace) -> None:
    measurable = options.format in FORMATS and options.precision == "fp32" and not options.no_verify
    original = model.module if isinstance(model.module, OriginalGraph) else None
    if measurable and original and original.whole and original.recognition.found:
        library = custom_library() if options.format == "onnx-custom" else None
        wide_console().print(str(speed_up(model, output, options.batch, library)))


def summarise(passport: Passport, output: Path) -> None:
    """Print what was made and how it was judged, for people."""
    console = wide_console()
    size = sum(record.bytes for record in passport.outputs) / 1e6
    forms = [record.form for record in passport.activations]
    counts = ", ".join(f"{forms.count(form)} {form}" for form in dict.fromkeys(forms)) or "none"
    console.print(f"{output}: {passport.architecture}, {size:.1f} MB, {len(forms)} activations ({counts})")
    if passport.build:
        _summarise_build(console, passport.build)
    if passport.parity is None:
        console.print("not verified (--no-verify)")
        return
    least = "stored in the type" if passport.parity.outputs[0].stored_max_rel else "torch float32's"
    table = Table("output", "runtime", "max error", least, "limit", "cosine", "top-1", title="parity, relative")
    for check in passport.parity.outputs:
        top1 = "-" if check.top1_agreement is None else f"{check.top1_agreement:.0%}"
        figures = (
            f"{v:.1e}" for v in (check.max_rel, check.stored_max_rel or check.torch_float32_max_rel, check.limit)
        )
        table.add_row(check.name, check.runner, *figures, f"{check.cosine:.9f}", top1)
    console.print(table)
    if passport.parity.activations:
        worst = max(passport.parity.activations, key=lambda check: check.max_error)
        console.print(
            f"each activation alone: at most {worst.max_error:.1e} off ({worst.path}), limit {worst.limit:.0e}"
        )
    console.print("verified against the float64 module")


def _summarise_build(console: Console, build: EngineBuild) -> None:
    target = f"compute capability {', '.join(build.capabilities) or '8.0 and later'}"
    console.print(
        f"{build.builder}, {target}, batch {':'.join(map(str, build.batches))}: {build.seconds:.1f} s, peak memory "
        f"{build.peak_memory_bytes / 1e6:.0f} MB, {sum(build.launches.values())} kernel launches"
    )
    console.print(build.note)
    if build.activation:
        console.print(f"activation {build.activation}: {build.reason}")


if __name__ == "__main__":
    sys.exit(main())
