"""`load`: from a file of weights to a torch module that is ready to export."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .. import architectures
from ..architectures.infer import norm_of
from ..choices import NORMS, WEIGHTS
from ..errors import InputError
from ..files import sha256
from ..replace import FLOORS
from .checkpoint import Checkpoint, organised, read_checkpoint
from .factory import call_factory, name_source
from .layouts import fit_to, network_part
from .trusted import NOTICE, read_trusted, ready, uncompiled

Shape = tuple[int, ...]
_CIFAR_SIDE, _IMAGENET_SIDE, _LARGEST_SIDE = 32, 224, 2048


@dataclass
class Metadata:
    """Where a model comes from: `source` file name, hash, size; architecture, weights, training arguments.

    `output_names`: names of the network's outputs in order; None where only a run tells.
    `square`: the network wants height = width. `notices`: what the user should know, one sentence each.
    `pixels`: where the network takes uint8 pixels: their `layout`, `channels`, and the `preprocess` recipe.
    """

    architecture: str
    source: str = ""
    sha256: str = ""
    bytes: int = 0
    weights: str = "model"
    arguments: dict[str, Any] = field(default_factory=dict)
    output_names: tuple[str, ...] | None = None
    square: bool = False
    notices: tuple[str, ...] = ()
    labels: list[str] | None = None
    pixels: dict[str, str] | None = None


@dataclass(frozen=True)
class InputSpec:
    """One input: `image` (C, H, W), whether channels come last, `dtype` (float32, or uint8 pixels)."""

    image: Shape
    channels_last: bool = False
    dtype: str = "float32"

    @property
    def shape(self) -> Shape:
        """Shape of a sample as it is given."""
        channels, height, width = self.image
        return (height, width, channels) if self.channels_last else self.image

    @property
    def axes(self) -> dict[int, str]:
        """Axes that may be dynamic, by name."""
        first = 1 if self.channels_last else 2
        return {0: "batch", first: "height", first + 1: "width"}


@dataclass
class Model:
    """`module`: torch module, eval mode, float32. `input_shape`: of one sample, e.g. (C, H, W), or None.

    `pixels`: nhwc or nchw where the module takes uint8 pixels in that layout; None: float32 (N, C, H, W).
    """

    module: nn.Module
    input_shape: Shape | None
    metadata: Metadata
    pixels: str | None = None

    @property
    def input(self) -> InputSpec:
        """What one call takes.

        Raises:
            InputError: the input's size is not known.
        """
        if self.input_shape is None:
            wanted = "--input-shape CxHxW"
            raise InputError("a network without a known input size", wanted, "Give it, e.g. 3x224x224.")
        return InputSpec(self.input_shape, self.pixels == "nhwc", "uint8" if self.pixels else "float32")


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
) -> Model:
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
        trust_pickle: run the code that the file holds: pickled modules, Ultralytics' .pt, torch.export's .pt2.

    Raises:
        InputError: the file, the options, or how they fit together; see the subclasses.
    """
    path = Path(path)
    _check_options(weights, classif_norm, floor)
    if path.suffix == ".onnx":
        from .onnx_file import model_from_onnx

        _refuse_for_onnx(weights=weights != "model", arch=arch, classif_norm=classif_norm, floor=floor, model=model)
        return model_from_onnx(path, input_shape)
    if path.suffix == ".pt2" and trust_pickle and path.is_file():
        return _program(path, input_shape)
    loaded = _trusted(path, weights) if trust_pickle else None
    if loaded is None:
        checkpoint = _checkpoint(path, weights, trust_pickle)
        loaded = _own(checkpoint, model) if model else _upstream(checkpoint, classif_norm, floor)
    _record_source(loaded.metadata, path)
    loaded.input_shape = input_shape or loaded.input_shape
    _check_architecture(arch, loaded.metadata.architecture)
    _check_input_shape(loaded)
    return loaded


def load_module(factory: str, input_shape: Shape | None = None) -> Model:
    """The network that `factory`, "package.module:factory", makes, with the weights that it gives it.

    Raises:
        InputError: it cannot be imported or called, or makes no torch module.
    """
    module = uncompiled(call_factory(factory)).float()
    module.train(False)
    return Model(module, input_shape, Metadata(factory, notices=(name_source(factory),)))


def _program(path: Path, input_shape: Shape | None) -> Model:
    from .onnx_file import model_from_program

    loaded = model_from_program(read_trusted(path), path, input_shape)
    _record_source(loaded.metadata, path)
    return loaded


def _trusted(path: Path, weights: str) -> Model | None:
    """The pickled module in a file, or None where it holds none."""
    if not path.is_file():
        return None
    module = read_trusted(path, weights)
    if not isinstance(module, nn.Module):
        return None
    metadata = Metadata(type(module).__name__, weights=weights, notices=(NOTICE,))
    return Model(ready(module), None, metadata)


def _checkpoint(path: Path, weights: str, trust_pickle: bool) -> Checkpoint:
    if not (trust_pickle and path.is_file()) or path.suffix == ".safetensors":
        return read_checkpoint(path, weights)
    checkpoint = organised(path, read_trusted(path, weights), weights)
    return dataclasses.replace(checkpoint, notices=(NOTICE, *checkpoint.notices))


def _record_source(metadata: Metadata, path: Path) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    hashes = [sha256(file) for file in files]
    whole = hashlib.sha256("".join(hashes).encode()).hexdigest() if path.is_dir() else hashes[0]
    metadata.source, metadata.sha256, metadata.bytes = path.name, whole, sum(file.stat().st_size for file in files)


def _own(checkpoint: Checkpoint, factory: str) -> Model:
    module = uncompiled(call_factory(factory))
    state, beside = fit_to(module.state_dict(), checkpoint.state, checkpoint.weights)
    module = architectures.filled(module, state, factory).float()
    metadata = Metadata(
        architecture=factory,
        weights=checkpoint.weights,
        arguments=checkpoint.arguments,
        notices=(*checkpoint.notices, name_source(factory), *_left_beside(beside)),
    )
    return Model(module, None, metadata)


def _left_beside(keys: Sequence[str]) -> tuple[str, ...]:
    if not keys:
        return ()
    named = ", ".join(key[:60] for key in keys[:3]) + (", ..." if len(keys) > 3 else "")
    return (f"{len(keys)} tensors of the file belong to no part of the network and were left out: {named}",)


def _upstream(checkpoint: Checkpoint, classif_norm: str | None, floor: str | None) -> Model:
    state = _backbone(network_part(checkpoint.state))
    norm = classif_norm or norm_of(checkpoint.arguments.get("classif_norm"))
    if norm is None and "classif_norm" in checkpoint.arguments:
        norm = "linear"
    network, found = architectures.network_of(
        state, classif_norm=norm, given_norm=classif_norm is not None, floor=floor
    )
    spec = found.spec
    notices = (*checkpoint.notices, *found.notices, *_assumptions(checkpoint.arguments, spec))
    metadata = Metadata(
        architecture=f"mmdet {spec.name}" if spec.backbone else spec.name,
        weights=checkpoint.weights,
        arguments=checkpoint.arguments,
        output_names=spec.output_names,
        square=spec.cifar,
        notices=notices,
    )
    return Model(network.float(), _usual_shape(spec, checkpoint.arguments), metadata)


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
            f"builds {spec.name} with plain ReLU whatever the flag says, and so does this export"
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
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise InputError(
            f"{', '.join(given)} with an .onnx file", "a checkpoint", "Leave it out: the graph says it all."
        )


def _check_architecture(wanted: str | None, found: str) -> None:
    if wanted is not None and wanted not in (found, found.removeprefix("mmdet ")):
        raise InputError(
            f"keys of {found}", f"--arch {wanted}", "Leave --arch out to take what the keys say, or check the file."
        )


def _check_input_shape(loaded: Model) -> None:
    if loaded.input_shape is None:
        return
    if len(loaded.input_shape) != 3:
        saw = f"--input-shape {'x'.join(map(str, loaded.input_shape))} for {loaded.metadata.architecture}"
        raise InputError(saw, "an image, CxHxW", "Give three sizes, e.g. 3x224x224.")
    _, height, width = loaded.input_shape
    if loaded.metadata.square and (height != width or height % 4):
        raise InputError(
            f"input of {height}x{width} for {loaded.metadata.architecture}",
            "height = width, a multiple of 4 (upstream's CIFAR networks pool by the width alone: taller input "
            "silently loses rows, wider input fails)",
            "Resize to a square, e.g. --input-shape 3x32x32.",
        )
