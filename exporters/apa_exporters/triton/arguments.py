"""`apa-export --format triton`: its options, and what they mean."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from apa_deploy.cli.common import print_json, wide_console
from apa_deploy.errors import InputError

from ..tensorrt.arguments import given_trt_options
from .export import DEVICES, FORMAT, Repository, TritonOptions, check_packages, export_triton

_SUFFIXES = (".onnx", ".engine")
_BACKENDS = ("onnxruntime", "tensorrt", "python")
_OWN = ("name", "backend", "device", "instances", "threads", "batch_delay_ms", "ensemble", "resize")
_SHARED = ("checkpoint", "format", "output", "force", "debug", "json", "batch", "labels", "input_shape", "command")


def add_options(group: argparse._ArgumentGroup) -> None:
    """The options that only this format has."""
    group.add_argument("--name", metavar="MODEL", help="to ask the server for (default: the file's)")
    group.add_argument("--backend", choices=_BACKENDS, help="(default: the artifact's own; python: CPU fallback)")
    group.add_argument("--device", choices=DEVICES, help="(default: gpu for an engine, else cpu)")
    group.add_argument("--instances", type=_count, default=1, metavar="N", help="executions at once (default: 1)")
    group.add_argument("--threads", type=int, default=0, metavar="N", help="of ONNX Runtime, an instance")
    group.add_argument("--batch-delay-ms", type=float, default=0.0, metavar="MS", help="wait this long for a batch")
    group.add_argument(
        "--ensemble", action="store_true", help="JPEG or PNG in: decoding in front; see --preprocess"
    )
    group.add_argument("--resize", type=_count, metavar="N", help="shorter side before the crop, for --ensemble")


def check_unused(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse this format's options with another format, and a checkpoint's options with an artifact.

    Raises:
        InputError: the first that does not belong.
    """
    known = set(vars(options)) - set(_SHARED)
    if options.format != FORMAT:
        unused, wanted = set(_OWN), f"--format {FORMAT}"
    elif is_artifact(options.checkpoint):
        unused, wanted = known - set(_OWN), "a checkpoint: what is exported already is served as it is"
    else:
        unused, wanted = {"compute_capability", "strip_weights", *_of_trt(options)}, "an engine"
    for name in sorted(unused & known):
        if getattr(options, name) != parser.get_default(name):
            raise InputError(f"--{name.replace('_', '-')}", wanted, "Leave it out.")


def _of_trt(options: argparse.Namespace) -> set[str]:
    return {name.removeprefix("--").replace("-", "_") for name in given_trt_options(options)}


def is_artifact(path: Path) -> bool:
    """Whether MODEL is an exported file rather than a checkpoint."""
    return path.suffix in _SUFFIXES


def export(options: argparse.Namespace, exported: Callable[[Path], object]) -> int:
    """Make the repository, and say what it is.

    Args:
        exported: writes the checkpoint as an .onnx file of this name.
    """
    output = options.output or Path(f"{options.checkpoint.name.split('.')[0]}.triton")
    check_packages(options.ensemble)
    chosen = _options(options)
    if is_artifact(options.checkpoint):
        made = export_triton(options.checkpoint, output, chosen)
    else:
        made = _from_checkpoint(options.checkpoint, output, chosen, exported)
    if options.json:
        print_json(made.document())
    else:
        _summarise(made)
    return 0


def _from_checkpoint(
    checkpoint: Path, output: Path, options: TritonOptions, exported: Callable[[Path], object]
) -> Repository:
    if options.backend == "tensorrt":
        do = "Export it first (--format trt), then make the repository from the .engine file."
        raise InputError("--backend tensorrt with a checkpoint", "an engine", do)
    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        path = Path(folder) / f"{checkpoint.name.split('.')[0]}.onnx"
        exported(path)
        return export_triton(path, output, options)


def _options(options: argparse.Namespace) -> TritonOptions:
    batch = options.batch
    return TritonOptions(
        name=options.name,
        backend=options.backend,
        device=options.device,
        batches=(batch, batch, batch) if isinstance(batch, int) else batch,
        delay=options.batch_delay_ms / 1e3,
        instances=options.instances,
        threads=options.threads,
        labels=options.labels,
        size=options.input_shape,
        ensemble=options.ensemble,
        resize=options.resize,
        force=options.force,
    )


def _summarise(made: Repository) -> None:
    console = wide_console()
    batches = f"batches to {made.max_batch}" if made.max_batch else "one request at a time"
    library = f", {made.library} wired in" if made.library else ""
    console.print(
        f"{made.path}: model {made.model} ({made.backend}), {batches}{library}; {made.files} files checked"
    )
    console.print(f"serve it: {made.path}/start    ask it: {made.path}/smoke-test")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a positive number")
    return int(text)
