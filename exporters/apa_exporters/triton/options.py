"""The options of `--format triton`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from apa_deploy.cli.common import count_of, limit_of
from apa_deploy.errors import InputError

from ..onnx.options import GraphOptions
from ..options import Batches, batch_option, batches_from, nest, option
from ..target import ExportSource, Outcome, Target

if TYPE_CHECKING:
    from .export import Repository

FORMAT = "triton"
DEVICES = ("cpu", "gpu")
BACKENDS = ("onnxruntime", "tensorrt", "python")


def _seconds(milliseconds: float) -> float:
    return milliseconds / 1e3


@dataclass(frozen=True)
class TritonOptions:
    """`graph`: of the ONNX file that is made of a checkpoint.

    `backend`: one of BACKENDS, or None for the artifact's own. `device`: cpu, gpu, or None: the GPU for an engine,
    else the CPU. `batches`: least, usual, largest; None: an engine's own profile, else 1, 8, 32. `delay`: seconds.
    `labels`: class names; None: those in the file. `size`: (C, H, W) where the file leaves it open. `resize`: to
    which the ensemble resizes the shorter side of a picture.
    """

    group: ClassVar[str] = "repository"

    graph: GraphOptions = nest(GraphOptions)
    name: str | None = option(None, "the model's name on the server (default: the file's)", metavar="MODEL")
    backend: str | None = option(None, "(default: the artifact's own; python: CPU fallback)", choices=BACKENDS)
    device: str | None = option(None, "(default: gpu for an engine, else cpu)", choices=DEVICES)
    instances: int = option(1, "executions that run at once (default: 1)", type=count_of, metavar="N")
    threads: int = option(0, "ONNX Runtime's threads per instance", type=partial(count_of, least=0), metavar="N")
    delay: float = option(
        0.0,
        "wait this long for a full batch",
        flag="--batch-delay-ms",
        type=limit_of,
        metavar="MS",
        read=_seconds,
    )
    ensemble: bool = option(False, "take JPEG or PNG, with a model that decodes; see --preprocess")
    resize: int | None = option(None, "shorter side before the crop, for --ensemble", type=count_of, metavar="N")
    batches: Batches | None = batch_option(None, read=batches_from)
    labels: Path | None = option(None, shared=True)
    size: tuple[int, ...] | None = option(None, flag="--input-shape", shared=True)
    force: bool = option(False, shared=True)


def _export(source: ExportSource, output: Path, options: TritonOptions) -> Outcome:
    from .export import check_triton_packages, export_triton, model_name

    check_triton_packages(options.ensemble)
    options = replace(options, name=model_name(source.path, options))
    if TARGET.takes_as_it_is(source.path):
        return _outcome(export_triton(source.path, output, options), None)
    if options.backend == "tensorrt":
        do = "Export it first (--format trt), then make the repository from the .engine file."
        raise InputError("--backend tensorrt with a checkpoint", "an engine", do)
    from ..onnx.export import export_onnx

    with tempfile.TemporaryDirectory(prefix="apa-") as folder:
        path = Path(folder) / f"{options.name}.onnx"
        passport = export_onnx(source.load(), path, options.graph.as_onnx("onnx-custom", None))
        return _outcome(export_triton(path, output, options), passport)


def _outcome(made: Repository, passport: Any) -> Outcome:
    return Outcome(Path(made.path), passport, partial(_summary, made), made.document)


def _summary(made: Repository) -> list[str]:
    batches = f"batches to {made.max_batch}" if made.max_batch else "one request at a time"
    library = f", {made.library} wired in" if made.library else ""
    return [
        f"{made.path}: model {made.model} ({made.backend}), {batches}{library}; {made.files} files checked",
        f"serve it: {made.path}/start    ask it: {made.path}/smoke-test",
    ]


TARGET = Target(FORMAT, ".triton", TritonOptions, _export, folder=True, repacks=("onnx", "engine"))
