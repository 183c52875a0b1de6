"""What is measured: an artifact on a runtime, and what it is fed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runtimes.artifacts import CHECKPOINT, ONNX, artifact_kind
from ..tensors.signature import TensorSpec

TORCH_RUNTIMES = CHECKPOINT.runtimes
RUNTIMES = (*ONNX.runtimes, *TORCH_RUNTIMES)
ONLY = ""  # a feed's name where the artifact has one input, whatever it is called


@dataclass(frozen=True)
class Subject:
    """`name`: as it is shown; `feeds`: empty where only the loaded model knows; `loading`: arguments of `load`.

    `sha256`: of the artifact, "" for a twin. `plain`: of a checkpoint, the plain activation that takes the place
    of the learned ones, or "".
    """

    name: str
    path: str
    runtime: str
    feeds: tuple[TensorSpec, ...] = ()
    sha256: str = ""
    plain: str = ""
    loading: dict[str, Any] = field(default_factory=dict)


def runtimes_of(path: Path, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `wanted` that open the file at `path`; its usual one where none does.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file", "a checkpoint, an .onnx file or an engine", "Check the path.")
    known = artifact_kind(path).runtimes
    return tuple(name for name in wanted if name in known) or known[:1]


def batch_shape(feed: TensorSpec, batch: int) -> tuple[int, ...]:
    """The shape of `batch` samples.

    Raises:
        InputError: the file has another batch built in.
    """
    fixed = feed.fixed_batch
    if fixed not in (None, batch):
        do = f"Pass --batch {fixed}, or export it with a dynamic batch."
        raise InputError(f"batch {batch}", f"{fixed}, which the file has built in", do)
    return tuple(size if isinstance(size, int) else batch for size in feed.dims or ())
