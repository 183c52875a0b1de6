"""`Network`: the one type of a model, whatever file it came from. Types only; `loading` makes them.

| made by                    | from                      | float64, the truth          | float32      |
| -------------------------- | ------------------------- | --------------------------- | ------------ |
| `loading.torch_network`    | weights, a pickled module | the module in float64       | the module   |
| `loading.onnx_network`     | anybody's .onnx file      | onnx's reference evaluation | ONNX Runtime |
| `loading.exported_program` | a .pt2 file               | the program in float64      | the program  |
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .errors import InputError
from .graph.sites import ActivationSite, NoMatch, use_name
from .tensors.signature import Feed, Shape, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from .detection.rows import Rows

TRUTH, FLOAT32 = "float64", "float32"
# The same with inputs one unit in the last place off: another sample of what float32 makes of the network.
FLOAT32_AGAIN = "float32 again"
HALVES = ("fp16", "bf16")
OWN = "own"  # float64 that rounds what the model itself stores in a half type
_SAME = 32 * 2.0**-24  # roundings of float32: the least limit of any gate
Curve = Callable[[np.ndarray], np.ndarray]


@dataclass
class Metadata:
    """Where a model comes from: `source` file name, hash, size; architecture, weights, training arguments.

    `output_names`: names of the network's outputs in order; None where only a run tells.
    `square`: the network wants height = width. `notices`: what the user should know, one sentence each.
    `pixels`: where the network takes uint8 pixels: their `layout`, `channels`, and the `preprocess` recipe.
    `spec`: the `architectures.Spec` of a network of upstream's, else None. `detector`: of a detector, what is done
    before and after it, and with which numbers.
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
    spec: Any = None
    detector: dict[str, Any] | None = None


@dataclass(frozen=True)
class Trace:
    """A network's canonical graph: one `com.apa` node for each use of an activation, all else standard.

    `sites`: these nodes, in the order of the graph. `activations`: one for each activation of the network, in its
    own order; `refused`: what looked like one. `curves`: of those that were found in the trace alone. `notices`:
    what the user should know of this graph, one sentence each. `features`: where layers end that 8 bits suit; what
    follows decides about detections in float32; () for all of the graph.
    """

    proto: onnx.ModelProto
    sites: tuple[ActivationSite, ...]
    activations: tuple[ActivationSite, ...]
    output_names: tuple[str, ...]
    refused: tuple[NoMatch, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


class Exchange:
    """Looks at what enters and leaves each activation of a run, and may put something else in its place.

    Args:
        paths: of the activations to stop at.
    """

    def __init__(self, paths: Collection[str]) -> None:
        self.paths = frozenset(paths)
        self._uses: dict[str, int] = defaultdict(int)

    def next_use(self, path: str) -> str:
        """The name of the use of `path` that begins now: "path", then "path#2"."""
        self._uses[path] += 1
        return use_name(path, self._uses[path])

    def arrive(self, name: str, value: np.ndarray) -> np.ndarray:
        """What the activation is given instead of `value`."""
        return value

    def leave(self, name: str, value: np.ndarray) -> np.ndarray:
        """What the layers behind it are given instead of `value`."""
        return value


class _Recorder(Exchange):
    def __init__(self, paths: Collection[str]) -> None:
        super().__init__(paths)
        self.entering: Feed = {}
        self.leaving: Feed = {}

    def arrive(self, name: str, value: np.ndarray) -> np.ndarray:
        self.entering[name] = value.copy()
        return value

    def leave(self, name: str, value: np.ndarray) -> np.ndarray:
        self.leaving[name] = value.copy()
        return value


def equal_but_rounding(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two answers are of one computation: sums of several threads may differ in their last digits."""
    if a.shape != b.shape:
        return False
    largest = np.abs(a).max(initial=0.0, where=np.isfinite(a))
    return bool(np.allclose(a, b, rtol=_SAME, atol=_SAME * largest, equal_nan=True))


class Network(ABC):
    """A model: what it takes, what it answers in every precision, what it learned, and its graph.

    `metadata`: where it comes from. `signature`: its inputs, in order.
    """

    metadata: Metadata
    signature: Signature

    @property
    def rows(self) -> Rows | None:
        """Of a network that answers with detections, what decides about them; they have no order of their own."""
        return None

    @abstractmethod
    def outputs(self, feed: Feed, dtype: str = TRUTH, exchange: Exchange | None = None) -> Feed:
        """Every output by its name, in the network's order, of any shape and type.

        Args:
            feed: an array for every input by its name; floats are taken in `dtype`, other types as they are.
            dtype: "float64", the truth; "float32"; or "fp16" or "bf16": float64 arithmetic in which the inputs,
                the weights and what each layer answers are rounded to the type; or "own", where `half` is not
                empty: only what the model itself stores in that type is rounded.
            exchange: see `Exchange`; None: nothing inside is looked at.

        Raises:
            InputError: the feed does not go with the network.
        """

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order; runs the network where nothing else tells.

        Raises:
            InputError: it has to be run and its input size is not known or not right.
        """

    @property
    @abstractmethod
    def activations(self) -> tuple[ActivationSite, ...]:
        """Its learned activations, one entry each, in its own order."""

    @property
    def learned(self) -> tuple[ActivationSite, ...]:
        """`activations`, and those that no module of its own holds: what its trace shows."""
        return self.activations

    @abstractmethod
    def curve(self, path: str) -> Curve | None:
        """What the part at `path` makes of float64 values, elementwise; None where there is no such part."""

    @abstractmethod
    def trace(self, opset: int = 18, batch: int | None = None) -> Trace:
        """The canonical graph, in float32; `batch`: a fixed size, or None for an open one.

        Raises:
            InputError: the network cannot be traced, or not at this opset or batch.
        """

    @property
    def half(self) -> str:
        """The half type that the model itself stores values in, before any precision is asked for; "" mostly."""
        return ""

    def intermediate(self, feed: Feed, paths: Collection[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """In float64 what enters and what leaves each use of the activations at `paths`, by the name of the use."""
        recorder = _Recorder(paths)
        self.outputs(feed, TRUTH, recorder)
        return {name: (recorder.entering[name], value) for name, value in recorder.leaving.items()}

    def find_randomness(self, feed: Feed) -> tuple[str, ...]:
        """What makes the network's answers change from run to run, or depend on the batch; mostly nothing.

        A dropout or a batch norm in training mode, an operator that draws numbers.
        """
        first, second = (self.outputs(feed, FLOAT32) for _ in range(2))
        return () if all(equal_but_rounding(first[name], second[name]) for name in first) else ("two runs differ",)

    @property
    def input(self) -> TensorSpec:
        """The first input.

        Raises:
            InputError: its size is not known.
        """
        spec = self.signature.first
        assert spec.sizes is not None
        return spec

    @property
    def input_shape(self) -> Shape | None:
        """Sizes of one sample of the first input, (C, H, W) of an image; None where they are not known."""
        spec = self.signature.first
        known = spec.sample is not None or not any(isinstance(dim, str) for dim in (spec.dims or ("",))[1:])
        return spec.image if known else None

    @property
    def module(self) -> nn.Module:
        """The torch module, float32, eval mode.

        Raises:
            InputError: it is a graph.
        """
        saw = f"{self.metadata.source or self.metadata.architecture}, a graph"
        raise InputError(saw, "a network of torch modules", "Give the checkpoint that it was exported from.")

    @property
    def session(self) -> Any:
        """The file as it came, in ONNX Runtime; None where it is none that ONNX Runtime runs."""
        return None

    def without_masks(self) -> Network:
        """A detector that does not compute the masks of what it detects; else the network itself."""
        return self

    def for_tensorrt(self) -> Self:
        """The same network within what TensorRT's layers hold; mostly itself."""
        return self

    def with_metadata(self, metadata: Metadata) -> Self:
        """The same network, described by `metadata`."""
        other = copy.copy(self)
        other.metadata = metadata
        return other

    def with_pixels(self, preprocess: str, layout: str, channels: str) -> Network:
        """A detector on bytes, its own config's mean, std and padding before it: `layout` nhwc or nchw, `channels`
        rgb or bgr.

        Raises:
            InputError: it is a graph, or `preprocess` is not mmdet.
        """
        saw = f"--preprocess {preprocess} with the detector {self.metadata.architecture}"
        raise InputError(saw, "mmdet: mean, std and padding are its config's", "Give --preprocess mmdet.")

    def wrap(self, options: str, wrapper: Callable[[nn.Module], nn.Module], signature: Signature) -> Network:
        """The network of `wrapper(module)`, which takes `signature`; `options`: who wants it, for the error.

        Raises:
            InputError: it is a graph, which is exported as it is.
        """
        saw = f"{options} with {self.metadata.source}"
        raise InputError(saw, "a checkpoint", "Put it into the network before it is exported to that file.")

    def explain(self) -> list[str]:
        """What was recognised in its file and what was left, line by line.

        Raises:
            InputError: it is no file of a graph.
        """
        raise InputError("--explain with a checkpoint", "an .onnx file", "Leave it out.")

    def judged_part(
        self, file: Path, sites: Sequence[ActivationSite]
    ) -> tuple[Path, Sequence[ActivationSite], tuple[str, ...]]:
        """The part of the exported `file` that this machine can judge, its activations and its outputs."""
        return file, sites, self.output_names
