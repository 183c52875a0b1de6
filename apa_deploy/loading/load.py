"""`load`: from a file to a network that is ready to export."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from .. import architectures
from ..architectures.infer import norm_of
from ..choices import NORMS, WEIGHTS
from ..errors import InputError
from ..files import sha256
from ..graph.sites import ActivationSite
from ..maths import GATE, UNIT
from ..network import Metadata, Network
from ..replace import FLOORS
from ..runtimes.artifacts import ONNX, artifact_kind, is_program, is_safetensors
from ..tensors.signature import Shape, image_signature
from .checkpoint import Checkpoint, organise, read_checkpoint
from .detectors import DetectorOptions, is_detector, network_from_detector
from .factory import call_factory, name_source
from .layouts import fit_to, network_part
from .module_inputs import lengthen_open_sizes, rows_reached, signature_of_module
from .torch_network import TorchNetwork
from .trusted import NOTICE, read_trusted, ready, remove_compile, remove_scripts

_CIFAR_SIDE, _IMAGENET_SIDE, _LARGEST_SIDE = 32, 224, 2048
# A module, the usual size of its input, and what is known about it.
_Loaded = tuple[nn.Module, Shape | None, Metadata]


def load(
    path: str | Path,
    *,
    weights: str = "model",
    arch: str | None = None,
    classif_norm: str | None = None,
    floor: str | None = None,
    input_shape: Shape | None = None,
    model: str | None = None,
    trust_pickle: bool = False,
    input: Sequence[str] = (),
    example: str | None = None,
    **detector: Any,
) -> Network:
    """Load a checkpoint: upstream's `.pth` in every layout, mmdet's, a bare state dict, `.safetensors`.

    Nothing in the file is executed. The architecture is inferred from keys and shapes. An `.onnx` file of any
    exporter is loaded as well: its activations are recognised in the graph, and it is its own reference.

    Args:
        path: the file.
        weights: "model", or "ema" for averaged weights.
        arch: the name that the network must turn out to have, e.g. "se_resnet50"; a check, not a choice.
        classif_norm: upstream's head (linear, cosine, lr_cosine, norm, inv) where keys cannot tell.
        floor: floor of the units' lambda ("relu+1e-8", "clamp 1e-4") where it is not the usual one.
        input_shape: (C, H, W) of one input; default: from the training arguments, or the family's usual.
        model: "package.module:factory", a callable without arguments that makes your own network.
        input: "name=shape[:dtype]" for each input of your own network or of a graph with open sizes.
        example: "package.module:function", which makes what your own network is called with.
        trust_pickle: run the code that the file holds: pickled modules, Ultralytics' .pt, torch.export's .pt2.
        detector: fields of `detectors.DetectorOptions`, for whole detectors.

    Raises:
        InputError: the file, the options, or how they fit together; see the subclasses.
    """
    path = Path(path)
    _check_options(weights, classif_norm, floor)
    options = DetectorOptions(**detector)
    options.check()
    if artifact_kind(path) is ONNX:
        from .onnx_file import network_from_onnx

        refused = {"arch": arch, "classif_norm": classif_norm, "floor": floor, "model": model, "example": example}
        _refuse_for_onnx(weights=weights != "model", **refused, **detector)
        return network_from_onnx(path, input_shape, input)
    if trust_pickle and is_program(path):
        return _program(path, input_shape, input)
    loaded = _load_trusted(path, weights) if trust_pickle else None
    if loaded is None:
        checkpoint = _checkpoint(path, weights, trust_pickle)
        if not model:
            checkpoint = dataclasses.replace(checkpoint, state=network_part(checkpoint.state))
        if not model and is_detector(checkpoint, options):
            whole = network_from_detector(checkpoint, options, floor, input_shape)
            _record_source(whole.metadata, path)
            _check_architecture(arch, whole.metadata.architecture)
            return whole
        loaded = _own(checkpoint, model) if model else _upstream(checkpoint, classif_norm, floor)
    module, usual_shape, metadata = loaded
    _record_source(metadata, path)
    _check_architecture(arch, metadata.architecture)
    if metadata.spec is None:
        return _with_inputs(module, metadata, input, example, input_shape)
    _refuse_for_upstream(input=input, example=example)
    shape = input_shape or usual_shape
    _check_input_shape(shape, metadata)
    return TorchNetwork(module, image_signature(shape), metadata)


def _with_inputs(
    module: nn.Module, metadata: Metadata, inputs: Sequence[str], example: str | None, shape: Shape | None
) -> Network:
    """A network of the user's own with the inputs that were said or that it tells."""
    signature, keywords = signature_of_module(module, inputs=inputs, example=example, shape=shape)
    signature = lengthen_open_sizes(module, signature, keywords)
    rows = rows_reached(module, signature, keywords)
    specs = tuple(dataclasses.replace(spec, rows=rows.get(spec.name)) for spec in signature.inputs)
    network = TorchNetwork(module, dataclasses.replace(signature, inputs=specs), metadata, keywords)
    metadata.notices += _describe_gates(module, network.activations)
    return network


def _describe_gates(module: nn.Module, sites: Sequence[ActivationSite]) -> tuple[str, ...]:
    """Ultralytics' class AGLU does not multiply by x: who trained with it has the gate, whatever its name says."""
    gates = [site.path for site in sites if site.kind == GATE and _class_of(module, site.path) == UNIT]
    if not gates:
        return ()
    more = f" and {len(gates) - 1} more" if len(gates) > 1 else ""
    return (f"{gates[0]}{more}: a class AGLU that is the gate alone, without x (as Ultralytics'): it is APA",)


def _class_of(module: nn.Module, path: str) -> str:
    """The name of the class of one of our activations, or of whoever stands at `path`."""
    part = dict(module.named_modules()).get(path)
    return "" if part is None or type(part).__module__.startswith("apa_deploy.") else type(part).__name__


def load_module(
    factory: str, input_shape: Shape | None = None, input: Sequence[str] = (), example: str | None = None
) -> Network:
    """The network that `factory`, "package.module:factory", makes, with the weights that it gives it.

    Raises:
        InputError: it cannot be imported or called, or makes no torch module.
    """
    module = remove_scripts(remove_compile(call_factory(factory)).float())
    module.train(False)
    metadata = Metadata(factory, notices=(name_source(factory),))
    return _with_inputs(module, metadata, input, example, input_shape)


def _program(path: Path, input_shape: Shape | None, inputs: Sequence[str]) -> Network:
    from .exported_program import network_from_program

    loaded = network_from_program(read_trusted(path), path, input_shape, inputs)
    _record_source(loaded.metadata, path)
    return loaded


def _load_trusted(path: Path, weights: str) -> _Loaded | None:
    """The pickled module in a file, or None where it holds none."""
    if not path.is_file():
        return None
    module = read_trusted(path, weights)
    if not isinstance(module, nn.Module):
        return None
    name = getattr(module, "original_name", type(module).__name__)  # of what torch.jit scripted
    metadata = Metadata(name, weights=weights, notices=(NOTICE,))
    return ready(module), None, metadata


def _checkpoint(path: Path, weights: str, trust_pickle: bool) -> Checkpoint:
    if not (trust_pickle and path.is_file()) or is_safetensors(path):
        return read_checkpoint(path, weights)
    checkpoint = organise(path, read_trusted(path, weights), weights)
    return dataclasses.replace(checkpoint, notices=(NOTICE, *checkpoint.notices))


def _record_source(metadata: Metadata, path: Path) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    hashes = [sha256(file) for file in files]
    whole = hashlib.sha256("".join(hashes).encode()).hexdigest() if path.is_dir() else hashes[0]
    metadata.source, metadata.sha256, metadata.bytes = path.name, whole, sum(file.stat().st_size for file in files)


def _own(checkpoint: Checkpoint, factory: str) -> _Loaded:
    module = remove_compile(call_factory(factory))
    state, beside = fit_to(module.state_dict(), checkpoint.state, checkpoint.weights)
    do = "Check that the factory makes the network which the file was saved from."
    module = remove_scripts(architectures.fill_module(module, state, factory, do=do).float())
    metadata = Metadata(
        architecture=factory,
        weights=checkpoint.weights,
        arguments=checkpoint.arguments,
        notices=(*checkpoint.notices, name_source(factory), *_describe_left(beside)),
    )
    return module, None, metadata


def _describe_left(keys: Sequence[str]) -> tuple[str, ...]:
    if not keys:
        return ()
    named = ", ".join(key[:60] for key in keys[:3]) + (", ..." if len(keys) > 3 else "")
    return (f"{len(keys)} tensors of the file belong to no part of the network and were left out: {named}",)


def _upstream(checkpoint: Checkpoint, classif_norm: str | None, floor: str | None) -> _Loaded:
    state = _backbone(checkpoint.state)
    norm = classif_norm or norm_of(checkpoint.arguments.get("classif_norm"))
    if norm is None and "classif_norm" in checkpoint.arguments:
        norm = "linear"
    network, found = architectures.network_of(
        state, classif_norm=norm, given_norm=classif_norm is not None, floor=floor
    )
    spec = found.spec
    notices = (*checkpoint.notices, *found.notices, *_assumptions(checkpoint.arguments, spec))
    if any(key.startswith("backbone.") for key in checkpoint.state):
        notices += ("a backbone alone is exported: feature maps, no detections",)
    metadata = Metadata(
        architecture=f"mmdet {spec.name}" if spec.backbone else spec.name,
        weights=checkpoint.weights,
        arguments=checkpoint.arguments,
        output_names=spec.output_names,
        square=spec.cifar,
        notices=notices,
        spec=spec,
    )
    return network.float(), _usual_shape(spec, checkpoint.arguments), metadata


def _backbone(state: dict[str, Any]) -> dict[str, Any]:
    """mmdet keeps its backbone among necks and heads: only those keys, without the prefix."""
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    return backbone or state


def _usual_shape(spec: architectures.Spec, arguments: dict[str, Any]) -> Shape:
    crop = arguments.get("val_crop_size")
    side = crop if isinstance(crop, int) and 0 < crop <= _LARGEST_SIDE else _IMAGENET_SIDE
    side = _CIFAR_SIDE if spec.cifar else side
    return spec.in_channels, side, side


def _assumptions(arguments: dict[str, Any], spec: architectures.Spec) -> list[str]:
    """What is read from the keys against the training arguments, or without their help."""
    found = []
    if arguments.get("use_gumbel_se") and not spec.learned_units:
        found.append(
            "the checkpoint was trained with --use_gumbel_se, but its keys hold no learned activation: upstream "
            f"builds {spec.name} with plain ReLU in any case, and so does this export"
        )
    if spec.backbone and spec.learned_units:
        found.append(
            f"no classifier among the keys: taken for mmdet's backbone, whose units floor lambda by "
            f"{spec.unit_floor!r}; --floor chooses another"
        )
    return found


def _check_options(weights: str, classif_norm: str | None, floor: str | None) -> None:
    for option, value, legal in (
        ("weights", weights, WEIGHTS),
        ("classif-norm", classif_norm, NORMS),
        ("floor", floor, tuple(FLOORS)),
    ):
        if value is not None and value not in legal:
            raise InputError(f"--{option} {value}", f"one of {', '.join(legal)}", "Choose one of these.")


def _refuse_for_onnx(**options: object) -> None:
    given = [
        f"--{name.replace('_', '-')}"
        for name, value in options.items()
        if value not in (None, "") and value is not False
    ]
    if given:
        raise InputError(
            f"{', '.join(given)} with an .onnx file", "a checkpoint", "Leave it out: the graph says it all."
        )


def _refuse_for_upstream(**options: object) -> None:
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        saw = f"{given[0]} with one of upstream's networks"
        raise InputError(saw, "--input-shape CxHxW", "Leave it out: such a network takes images.")


def _check_architecture(wanted: str | None, found: str) -> None:
    if wanted is not None and wanted not in (found, found.removeprefix("mmdet ")):
        raise InputError(
            f"keys of {found}", f"--arch {wanted}", "Leave --arch out to take what the keys say, or check the file."
        )


def _check_input_shape(shape: Shape | None, metadata: Metadata) -> None:
    if shape is None:
        return
    if len(shape) != 3:
        saw = f"--input-shape {'x'.join(map(str, shape))} for {metadata.architecture}"
        do = "Give three sizes; where it takes no images, give the .onnx that torch.onnx.export makes of it."
        raise InputError(saw, "the size of an image, e.g. 3x224x224", do)
    _, height, width = shape
    if metadata.square and (height != width or height % 4):
        raise InputError(
            f"input of {height}x{width} for {metadata.architecture}",
            "height = width, a multiple of 4 (upstream's CIFAR networks pool by the width alone: taller input "
            "silently loses rows, wider input fails)",
            "Resize to a square, e.g. --input-shape 3x32x32.",
        )
