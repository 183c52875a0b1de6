"""What a user names on the command line: a checkpoint, a module, an ONNX file or an engine."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from ..errors import InputError
from ..runtimes.artifacts import artifact_kind

if TYPE_CHECKING:
    from ..network import Network

_MODULE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class SourceKind(StrEnum):
    """How a source is opened."""

    CHECKPOINT = "checkpoint"
    MODULE = "module"
    ONNX = "onnx"
    ENGINE = "engine"
    OPENVINO = "openvino"


# They run, and show nothing inside.
COMPILED = (SourceKind.ENGINE, SourceKind.OPENVINO)


class ModelSource(BaseModel):
    """`text`: as it was named, a path or "package.module:factory". `live`: a torch module of this process."""

    text: str
    kind: SourceKind
    live: Any = Field(default=None, exclude=True)

    @property
    def name(self) -> str:
        """The file's name, or the text itself."""
        return self.text if self.kind is SourceKind.MODULE else Path(self.text).name

    @property
    def path(self) -> Path | None:
        """The file, or None for a module."""
        return None if self.kind is SourceKind.MODULE else Path(self.text)


class Loading(BaseModel):
    """How checkpoints are read: arguments of `load`, and of `deployment.Deployment` (paths as text)."""

    arguments: dict[str, Any] = {}
    input_shape: tuple[int, ...] | None = None
    deployment: dict[str, Any] = {}


def source_of(text: str) -> ModelSource:
    """The source that `text` names.

    Raises:
        InputError: it is neither a file nor "package.module:factory".
    """
    path = Path(text)
    if path.is_file():
        return ModelSource(text=text, kind=SourceKind(artifact_kind(path).name))
    if _MODULE.fullmatch(text):
        return ModelSource(text=text, kind=SourceKind.MODULE)
    saw = f"{text}: a folder" if path.is_dir() else f"{text}: no such file"
    raise InputError(
        saw,
        "a checkpoint, an .onnx file, an engine, an .xml of OpenVINO, or package.module:factory",
        "Check the path.",
    )


def load_network(source: ModelSource, loading: Loading) -> Network:
    """A network from anything but an engine, with the deployment options around it.

    Raises:
        InputError: it cannot be loaded; an engine has no float64 to be judged by.
    """
    from ..deployment import Deployment, deploy

    if source.kind in COMPILED:
        saw, wanted = f"{source.name} as the reference", "a checkpoint, a module or an .onnx file"
        raise InputError(saw, wanted, "Name the model that it was built from: that can run in float64.")
    return deploy(_load(source, loading), Deployment(**_with_paths(loading.deployment)))


def _load(source: ModelSource, loading: Loading) -> Network:
    from ..loading.load import load, load_module
    from ..loading.torch_network import TorchNetwork
    from ..network import Metadata
    from ..tensors.signature import image_signature

    shape: Any = loading.input_shape
    if source.live is not None:
        return TorchNetwork(source.live, image_signature(shape), Metadata(type(source.live).__name__))
    if source.kind is SourceKind.MODULE:
        given = {name: loading.arguments[name] for name in ("input", "example") if name in loading.arguments}
        return load_module(source.text, shape, **given)
    return load(source.text, input_shape=shape, **loading.arguments)


def _with_paths(options: dict[str, Any]) -> dict[str, Any]:
    return {k: Path(v) if k in ("counts", "labels") and v is not None else v for k, v in options.items()}
