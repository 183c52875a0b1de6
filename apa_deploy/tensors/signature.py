"""What a network takes and gives: the name, number type and sizes of each tensor, in one form for every source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .datatypes import Datatype, of_dtype

if TYPE_CHECKING:
    import onnx

Feed = dict[str, np.ndarray]
Shape = tuple[int, ...]
# By input, the least, usual and largest shape that an engine is built for.
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
INPUT = "input"  # of a torch network with one input
BATCH, HEIGHT, WIDTH = "batch", "height", "width"
_IMAGE_RANK = 4
ANY = -1  # an open size, where sizes are numbers


@dataclass(frozen=True)
class TensorSpec:
    """One tensor.

    `dtype`: numpy's name ("float32", "bfloat16", "object" for strings). `dims`: a number where the size is fixed, a
    name where it is open; the batch comes first; None where not even the rank is known. `sample`: sizes of one
    sample, without the batch, to use where `dims` leaves them open; None: nobody said. `rows`: integers lie in
    [0, rows), the smallest table that they are indices of; None: of none. `largest`: of an engine's input, what it
    takes at most.
    """

    name: str
    dtype: str
    dims: tuple[int | str, ...] | None
    sample: Shape | None = None
    rows: int | None = None
    largest: Shape = ()

    @classmethod
    def of_sizes(cls, name: str, dtype: str, sizes: Iterable[int], largest: Shape = ()) -> TensorSpec:
        """A tensor with -1 where its size is open."""
        dims = tuple(f"{name}_{axis}" if size == ANY else size for axis, size in enumerate(sizes))
        return cls(name, dtype, dims, largest=largest)

    @cached_property
    def declared(self) -> Shape:
        """`dims` with -1 where the size is open."""
        return tuple(dim if isinstance(dim, int) else ANY for dim in self.dims or ())

    @cached_property
    def numpy_dtype(self) -> np.dtype:
        """The numpy type; bfloat16 is the one of ml_dtypes."""
        if self.dtype == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.dtype)

    @cached_property
    def datatype(self) -> Datatype:
        """Its type in the inference protocol.

        Raises:
            InputError: the protocol has no such type.
        """
        datatype = of_dtype(self.numpy_dtype)
        if datatype is None:
            saw = f"{self.name} of {self.dtype}"
            raise InputError(saw, "a datatype of the protocol", "Export the model without --half-io.")
        return datatype

    @property
    def fixed_batch(self) -> int | None:
        """The batch that it insists on, or None."""
        return self.dims[0] if self.dims and isinstance(self.dims[0], int) else None

    @property
    def sizes(self) -> Shape:
        """Sizes of one sample, in the order in which it is given.

        Raises:
            InputError: some are open and nothing says what they are.
        """
        fixed = tuple(dim for dim in (self.dims or ())[1:] if isinstance(dim, int))
        if self.sample is not None:
            return self.sample
        if self.dims is None or len(fixed) != max(0, len(self.dims) - 1):
            wanted = "--input-shape CxHxW, or --input NAME=SHAPE[:dtype]"
            raise InputError("a network without a known input size", wanted, "Give it, e.g. 3x224x224.")
        return fixed

    def shape(self, batch: int) -> Shape:
        """The shape of `batch` samples; a fixed batch stays what it is, a scalar a scalar."""
        sizes = self.sizes
        return () if self.dims == () else (self.fixed_batch or batch, *sizes)

    @property
    def open_axes(self) -> dict[int, str]:
        """Axis -> its name, for each whose size is open."""
        return {axis: dim for axis, dim in enumerate(self.dims or ()) if isinstance(dim, str)}

    @property
    def is_image(self) -> bool:
        """Whether it has the rank of a batch of images."""
        return self.dims is not None and len(self.dims) == _IMAGE_RANK

    @property
    def channels_last(self) -> bool:
        """Whether it is a batch of images (N, H, W, C); else they are (N, C, H, W)."""
        return self.dims is not None and self.dims[1:3] == (HEIGHT, WIDTH)

    @property
    def image(self) -> Shape:
        """`sizes`, but an image's always in the order channels, height, width."""
        return (self.sizes[-1], *self.sizes[:-1]) if self.channels_last else self.sizes

    def resize(self, image: Shape) -> TensorSpec:
        """The same for another image of (C, H, W)."""
        return replace(self, sample=(*image[1:], image[0]) if self.channels_last else image)


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in their order; no outputs where only a run would tell them.

    `photograph`: whether seeded inputs are one: of a detector, as noise holds nothing to be detected.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()
    photograph: bool = False

    @property
    def first(self) -> TensorSpec:
        """The input that carries what the network is about.

        Raises:
            InputError: there is none.
        """
        if not self.inputs:
            raise InputError("a graph without inputs", "a network", "Check the file.")
        return self.inputs[0]

    @property
    def seeds(self) -> str:
        """What a report says about seeded inputs."""
        if self.photograph:
            return "photograph"
        tables = [f"{spec.name} in [0, {spec.rows})" for spec in self.inputs if spec.rows]
        return ", ".join(["seeded", *tables])

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter(self.inputs)


_INPUT = re.compile(r"(?P<name>[^=:]+)=(?P<shape>[0-9A-Za-z]*)(?::(?P<dtype>[a-z]+[0-9]*))?")
_DTYPES = ("float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_LENGTH = 16  # of an open size


def parse_input(text: str) -> TensorSpec:
    """`name=shape[:dtype]`: one sample's shape without the batch, a letter for an open size; float32 unless said.

    Raises:
        InputError: it is no such thing.
    """
    match = _INPUT.fullmatch(text)
    sizes = match["shape"].split("x") if match and match["shape"] else []
    if not match or not all(re.fullmatch(r"[1-9]\d*|[A-Za-z]", size) for size in sizes):
        saw, example = f"--input {text}", "name=shape[:dtype], e.g. ids=16:int64 or mask=T:bool"
        do = (
            "Give arrays to verify on with --inputs FILE.npz."
            if "=" not in text
            else "Write the shape of one sample."
        )
        raise InputError(saw, example, do)
    dtype = match["dtype"] or "float32"
    if dtype not in _DTYPES:
        raise InputError(f"--input {text}", f"one of {', '.join(_DTYPES)}", "Name the type so.")
    dims = tuple(int(size) if size.isdigit() else size for size in sizes)
    sample = tuple(_LENGTH if isinstance(dim, str) else dim for dim in dims)
    return TensorSpec(match["name"], dtype, (BATCH, *dims), sample)


def image_spec(
    sample: Shape | None, *, channels_last: bool = False, dtype: str = "float32", name: str = INPUT
) -> TensorSpec:
    """The input of a network for images of `sample`, (C, H, W); of another rank all but the batch is fixed."""
    if sample is not None and len(sample) != _IMAGE_RANK - 1:
        return TensorSpec(name, dtype, (BATCH, *sample), sample)
    channels: int | str = sample[0] if sample else "channels"
    dims = (BATCH, HEIGHT, WIDTH, channels) if channels_last else (BATCH, channels, HEIGHT, WIDTH)
    spec = TensorSpec(name, dtype, dims)
    return spec.resize(sample) if sample else spec


def image_signature(sample: Shape | None, *, channels_last: bool = False, dtype: str = "float32") -> Signature:
    """The signature of a network with one `image_spec`."""
    return Signature((image_spec(sample, channels_last=channels_last, dtype=dtype),))


def read_signature(model: onnx.ModelProto) -> Signature:
    """The signature of an ONNX model. Inputs that are also initializers (old exporters) are none."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = (value for value in model.graph.input if value.name not in stored)
    return Signature(tuple(map(read_spec, inputs)), tuple(map(read_spec, model.graph.output)))


def read_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """One input or output of an ONNX graph; a nameless open axis is called after its place."""
    from onnx import helper

    tensor = value.type.tensor_type
    known = tensor.elem_type != 0  # 0: a sequence, a map, or left out
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if known else "object"
    if not tensor.HasField("shape"):
        return TensorSpec(value.name, dtype, None)
    dims = tuple(
        dim.dim_value if dim.dim_value > 0 else dim.dim_param or f"{value.name}_{axis}"  # some write -1 for open
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, dtype, dims)
