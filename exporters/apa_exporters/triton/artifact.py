"""What a Triton repository must know of the artifact that it serves: read from the file and its passport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from apa_deploy.detection.pictures import photograph_feed
from apa_deploy.detection.spec import IMAGES, VALID
from apa_deploy.errors import InputError
from apa_deploy.graph.node import DOMAIN
from apa_deploy.graph.read import read_graph
from apa_deploy.graph.sites import read_recorded
from apa_deploy.graph.values import external_files
from apa_deploy.records.integrity import verify_passport, warnings
from apa_deploy.records.passport import Passport, TensorRecord, passport_path
from apa_deploy.runtimes.artifacts import ONNX, artifact_kind
from apa_deploy.serving.errors import RequestError
from apa_deploy.serving.layout import Artifact, fingerprint
from apa_deploy.serving.model import load_model
from apa_deploy.serving.model_config import ModelConfig
from apa_deploy.serving.signature import RequestSignature, signature_from_onnx
from apa_deploy.serving.tensors import read_datatype
from apa_deploy.serving.triton_releases import advise_release
from apa_deploy.serving.warmup import sample
from apa_deploy.tensors.inputs import fits_dims
from apa_deploy.tensors.signature import ANY, Shape, TensorSpec, image_spec

from ..options import BATCHES, Batches

_BATCHES_OF_DETECTORS = (1, 2, 4)  # of large pictures
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Served:
    """An artifact, checked. `beside`: further files of it; `size`: (C, H, W) where it is known.
    `detector`: of one, what is done before and behind it, and with which numbers.

    `batches`: least, usual and largest; `operators`: whether com.apa nodes are in it;
    `plugin`: whether the engine wants our plugin loaded; `inputs`, `outputs`: one row and its answer, None where it
    cannot run here or its open sizes are not known.
    """

    path: Path
    beside: tuple[Path, ...]
    signature: RequestSignature
    passport: Passport | None
    batches: Batches
    size: Shape | None = None
    labels: tuple[str, ...] = ()
    pixels: dict[str, str] | None = None
    detector: dict[str, Any] | None = None
    operators: bool = False
    plugin: bool = False
    inputs: Arrays | None = None
    outputs: Arrays | None = None
    notices: tuple[str, ...] = ()


def describe_artifact(path: Path, batches: Batches | None, size: Shape | None) -> Served:
    """Check and describe an .onnx or .engine file; an .onnx file is run as well.

    Args:
        batches: least, usual, largest; None: an engine's profile, else 1, 8, 32.
        size: (C, H, W) where the file leaves it open and has no passport.

    Raises:
        InputError: it cannot be served, or an engine has no passport.
        IntegrityError: a hash differs from the passport's.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file", "an exported model or a checkpoint", "Check the path.")
    return _onnx(path, batches, size) if artifact_kind(path) is ONNX else _engine(path, batches)


def _onnx(path: Path, batches: Batches | None, size: Shape | None) -> Served:
    proto = read_graph(path)
    weights = external_files(proto)
    if elsewhere := [name for name in weights if Path(name).name != name]:
        wanted = "weights in the folder of the model itself, as a version of a Triton model is one folder"
        do = "Save it again: onnx.save_model(onnx.load(FILE), NEW, save_as_external_data=True)."
        raise InputError(f"{path}: weights in {', '.join(elsewhere[:3])}", wanted, do)
    passport = verify_passport(path, weights)
    detector = read_recorded(proto, "apa.detector", dict) or None
    batches = batches or (_BATCHES_OF_DETECTORS if detector else BATCHES)
    files = [path.with_name(name) for name in weights] + [passport_path(path)] * (passport is not None)
    found = Served(
        path=path,
        beside=tuple(files),
        signature=signature_from_onnx(proto, batches[2]),
        passport=passport,
        batches=batches,
        size=size or (passport.input_shape if passport else None),
        labels=tuple(map(str, read_recorded(proto, "apa.labels", list))),
        pixels=read_recorded(proto, "apa.pixels", dict) or None,
        detector=detector,
        operators=any(node.domain == DOMAIN for node in proto.graph.node),
    )
    return _ran(found)


def _ran(found: Served) -> Served:
    """Load it as the server will, find out whether rows may share a run, and keep one row and its answer."""
    config = ModelConfig(max_batch=found.signature.max_batch)
    loaded = load_model(
        Artifact(found.path.stem, 1, found.path, config, fingerprint(found.path, None)), threads=1, providers=None
    )
    with loaded.session as session:
        found = replace(found, signature=loaded.signature, notices=tuple(loaded.notices))
        if any(ANY in sizes for sizes in row_shapes(found).values()):
            notice = "no warm-up and no smoke test of values: sizes are open. Give them: --input-shape"
            return replace(found, notices=(*found.notices, notice))
        inputs = _row(found)
        return replace(found, inputs=inputs, outputs=session.run(inputs))


def _engine(path: Path, batches: Batches | None) -> Served:
    passport = verify_passport(path, [])
    if passport is None:
        wanted = f"{passport_path(path).name} beside it, which says what the engine is"
        raise InputError(f"{path}: no passport", wanted, "Export it with apa-export --format trt.")
    if passport.format != "trt":
        saw = f"{path}: an engine of format {passport.format}"
        raise InputError(saw, "format trt", "Triton's backend loads standard TensorRT engines alone: export one.")
    if passport.build is None or not passport.input_tensors:
        raise InputError(f"{path}: its passport lacks the profile", "a newer passport", "Export the engine again.")
    batches = _within(passport.build.batches, batches)
    dynamic = passport.input_tensors[0].shape[0] == ANY
    options, built = passport.options, passport.versions.get("tensorrt", "unknown")
    found = Served(
        path=path,
        beside=(passport_path(path),),
        signature=_signature(passport, batches[2] if dynamic else 0),
        passport=passport,
        batches=batches,
        size=passport.input_shape,
        pixels=options.get("pixels"),
        plugin=passport.needs_plugin,  # one that brings its plugin must not meet a second one of that name
        notices=(
            *warnings(passport),
            f"serve it with TensorRT {built}: {advise_release(built)}",
            "the smoke test judges shapes alone: an engine is not run here",
        ),
    )
    return replace(found, inputs=_row(found))


def _within(profile: Batches, batches: Batches | None) -> Batches:
    if batches and not profile[0] <= batches[0] <= batches[2] <= profile[2]:
        saw, wanted = (":".join(map(str, given)) for given in (batches, profile))
        raise InputError(f"--batch {saw}", f"sizes within the engine's profile {wanted}", "Leave it out for that.")
    return batches or profile


def _signature(passport: Passport, max_batch: int) -> RequestSignature:
    return RequestSignature(_specs(passport.input_tensors), _specs(passport.output_tensors), max_batch=max_batch)


def _specs(records: Sequence[TensorRecord]) -> tuple[TensorSpec, ...]:
    try:
        return tuple(TensorSpec.of_sizes(r.name, read_datatype(r.datatype).dtype.name, r.shape) for r in records)
    except RequestError as error:
        raise InputError(error.saw, error.wanted, "Export the engine without --half-io.") from error


def row_shapes(found: Served) -> dict[str, tuple[int, ...]]:
    """Sizes of each input behind the batch (all sizes where the model does not batch), -1 where not known."""
    return {spec.name: _sizes(spec, found) for spec in found.signature.inputs}


def _sizes(spec: TensorSpec, found: Served) -> tuple[int, ...]:
    known = list(spec.declared)
    if found.size and len(known) == 4:
        behind = image_spec(found.size, channels_last=(found.pixels or {}).get("layout") == "nhwc").sizes
        known[1:] = [size if dim == ANY else dim for dim, size in zip(known[1:], behind, strict=True)]
    elif found.size and fits_dims(found.size, spec.dims[1:] if spec.dims else ()):
        known[1:] = found.size
    if found.signature.max_batch:
        return tuple(known[1:])
    return (1 if known and known[0] == ANY else known[0], *known[1:]) if known else ()


def _row(found: Served) -> Arrays:
    shapes = row_shapes(found)
    if found.detector and VALID in shapes:
        return photograph_feed(shapes[IMAGES][-3:])
    specs = [replace(spec, dims=(1, *shapes[spec.name])) for spec in found.signature.inputs]
    values = sample(RequestSignature(tuple(specs), max_batch=1), 1, ())
    row = {name: _pixels(array) for name, array in values.items()}
    return row if found.signature.max_batch else {name: array[0] for name, array in row.items()}


def _pixels(array: np.ndarray) -> np.ndarray:
    """Integers of a sample are zeros and ones, which as pixels would be nearly black: the whole range instead."""
    if array.dtype != np.uint8:
        return array
    return np.random.default_rng(0).integers(0, 256, array.shape).astype(np.uint8)
