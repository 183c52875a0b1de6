"""`apa-export`: a trained model goes in, a deployable and verified artifact comes out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from apa_deploy.architectures.spec import NORMS
from apa_deploy.checkpoint import WEIGHTS
from apa_deploy.cli.common import run_verb, verb_parser, wide_console
from apa_deploy.deployment import Deployment, deployed
from apa_deploy.deployment.iif import VARIANTS
from apa_deploy.deployment.pixels import CHANNELS, LAYOUTS, RECIPES
from apa_deploy.errors import InputError
from apa_deploy.graph.decompose import FORMS
from apa_deploy.graph.precision import PRECISIONS
from apa_deploy.model import Shape, load
from apa_deploy.parity.report import ParityError
from apa_deploy.passport import Passport, dump
from apa_deploy.replace import FLOORS

from .onnx import FORMATS, OnnxOptions, export_onnx

_SUFFIX = {"onnx": ".onnx", "onnx-custom": ".custom.onnx"}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `apa-export`; returns the exit code."""
    return run_verb(_parser(), _export, argv)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("apa-export", __doc__ or "")
    parser.add_argument("checkpoint", metavar="MODEL", type=Path, help="checkpoint: .pth, .pt or .safetensors")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="what to make (default: onnx)")
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: MODEL's name, here)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    _add_loading(parser.add_argument_group("loading"))
    _add_graph(parser.add_argument_group("graph"))
    _add_deployment(parser.add_argument_group("baked into the graph"))
    _add_verification(parser.add_argument_group("verification"))
    return parser


def _add_loading(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--weights", choices=WEIGHTS, default="model", help="ema: the averaged weights")
    group.add_argument("--arch", help="name that the network must turn out to have, e.g. se_resnet50")
    group.add_argument("--classif-norm", choices=NORMS, help="upstream's head, where the keys cannot tell")
    group.add_argument("--floor", choices=list(FLOORS), help="floor of the units' lambda, where it is unusual")
    group.add_argument("--model", metavar="PKG.MOD:FACTORY", help="callable that makes your own network")


def _add_graph(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--input-shape", metavar="CxHxW", type=_shape, help="e.g. 3x224x224")
    group.add_argument("--batch", type=int, metavar="N", help="fixed batch size (default: dynamic)")
    group.add_argument("--opset", type=int, default=18, help="18 (default) to 23")
    group.add_argument("--decomposition", choices=FORMS, default="anl", help="form of ordinary activations")
    group.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the graph (default: fp32)")
    group.add_argument("--half-io", action="store_true", help="inputs and outputs in that precision too")


def _add_deployment(group: argparse._ArgumentGroup) -> None:
    names = ", ".join(RECIPES)
    group.add_argument("--preprocess", metavar="NAME|FILE", help=f"uint8 pixels in: {names}, or a JSON file")
    group.add_argument("--input-layout", choices=LAYOUTS, default="nhwc", help="of the pixels (default: nhwc)")
    group.add_argument("--input-channels", choices=CHANNELS, help="order of the pixels' channels")
    group.add_argument("--iif", metavar="VARIANT", help=f"add IIF constants to the logits: {', '.join(VARIANTS)}")
    group.add_argument("--class-counts", type=Path, metavar="FILE", help="training images a class, for --iif")
    group.add_argument("--softmax", action="store_true", help="probabilities instead of logits")
    group.add_argument("--labels", type=Path, metavar="FILE", help="class names, into the metadata")


def _deployment(options: argparse.Namespace) -> Deployment:
    return Deployment(
        preprocess=options.preprocess,
        layout=options.input_layout,
        channels=options.input_channels,
        iif=options.iif,
        counts=options.class_counts,
        softmax=options.softmax,
        labels=options.labels,
    )


def _add_verification(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--no-verify", action="store_true", help="skip the parity gate")
    group.add_argument("--inputs", type=Path, metavar="NPZ", help="verify on these: array 'input', (N, C, H, W)")


def _shape(text: str) -> Shape:
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if not match or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"{text!r}: wanted CxHxW with positive sizes, e.g. 3x224x224")
    return int(match[1]), int(match[2]), int(match[3])


def _export(options: argparse.Namespace) -> int:
    output = options.output or Path(options.checkpoint.stem + _SUFFIX[options.format])
    if output.suffix != ".onnx":
        raise InputError(f"-o {output}", "a name that ends in .onnx", "Runtimes choose their reader by it.")
    sys.path.insert(0, "")  # --model finds packages of the current folder, as `python -m` does
    model = load(
        options.checkpoint,
        weights=options.weights,
        arch=options.arch,
        classif_norm=options.classif_norm,
        floor=options.floor,
        input_shape=options.input_shape,
        model=options.model,
    )
    chosen = OnnxOptions(
        format=options.format,
        opset=options.opset,
        batch=options.batch,
        decomposition=options.decomposition,
        precision=options.precision,
        half_io=options.half_io,
        verify=not options.no_verify,
        inputs=options.inputs,
        force=options.force,
    )
    try:
        passport = export_onnx(deployed(model, _deployment(options)), output, chosen)
    except ParityError as error:
        if options.json:
            print(error.report.model_dump_json(indent=2))
        raise
    if options.json:
        print(dump(passport), end="")
    else:
        summarise(passport, output)
    return 0


def summarise(passport: Passport, output: Path) -> None:
    """Print what was made and how it was judged, for people."""
    console = wide_console()
    size = sum(record.bytes for record in passport.outputs) / 1e6
    forms = [record.form for record in passport.activations]
    counts = ", ".join(f"{forms.count(form)} {form}" for form in dict.fromkeys(forms)) or "none"
    console.print(f"{output}: {passport.architecture}, {size:.1f} MB, {len(forms)} activations ({counts})")
    if passport.parity is None:
        console.print("not verified (--no-verify)")
        return
    table = Table(
        "output", "runtime", "max error", "torch float32's", "limit", "cosine", "top-1", title="parity, relative"
    )
    for check in passport.parity.outputs:
        top1 = "-" if check.top1_agreement is None else f"{check.top1_agreement:.0%}"
        figures = (f"{v:.1e}" for v in (check.max_rel, check.torch_float32_max_rel, check.limit))
        table.add_row(check.name, check.runner, *figures, f"{check.cosine:.9f}", top1)
    console.print(table)
    if passport.parity.activations:
        worst = max(passport.parity.activations, key=lambda check: check.max_error)
        console.print(
            f"each activation alone: at most {worst.max_error:.1e} off ({worst.path}), limit {worst.limit:.0e}"
        )
    console.print("verified against the float64 module")


if __name__ == "__main__":
    sys.exit(main())
