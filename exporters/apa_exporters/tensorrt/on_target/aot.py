"""TensorRT's ahead-of-time Python plugins for the nodes `AGLUKernel` and `APAKernel`: a layer's kernel is PTX in
the plan, and nothing has to be shipped beside it.

The bundle's aot/kernels.ptx holds one kernel for each kind, regime of lambda and element type, with placeholders
for coefficients; aot/layers.json names the kernel and the coefficients of each layer. TensorRT reads annotations
when a plugin is registered: this file must not turn them into strings.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

KERNELS, LAYERS = "aot/kernels.ptx", "aot/layers.json"
LEAST_TENSORRT = (10, 9)
PTX_VERSION, CUDA = "6.3", "10.0"  # the lowest with sm_75, and the CUDA whose drivers compile it first
NAMES = {"AGLU": "unit", "APA": "gate"}
_BLOCK, _PACKS_A_THREAD, _PACK_BYTES = 256, 2, 16
_TYPES = {"FLOAT": ("FP32", "float", 4), "HALF": ("FP16", "half", 2), "BF16": ("BF16", "bfloat16", 2)}
_MOST = 2**31 - 1  # the count of elements is an int32
_ENTRY = r"\.visible \.entry {name}\(.*?\n\}}\n"
_COEFFICIENTS = re.compile(r"apa_coefficients\[32\] = \{[^}]*\}")


def kernel_text(kernels: str, name: str, coefficients: bytes) -> str:
    """The PTX of one kernel alone, with these coefficients, for the oldest driver that can take it.

    Args:
        kernels: the text of aot/kernels.ptx.
    """
    entry = re.search(_ENTRY.format(name=name), kernels, re.DOTALL)
    if not entry:
        raise KeyError(f"no kernel {name}")
    head = kernels[: kernels.index(".visible")]
    head = re.sub(r"\.version \S+", f".version {PTX_VERSION}", head)
    head = re.sub(r"\s*// \.globl.*", "", head)
    listed = ", ".join(map(str, coefficients))
    return _COEFFICIENTS.sub(f"apa_coefficients[32] = {{{listed}}}", head) + entry[0]


def register(folder: Path) -> int:
    """Register both plugins with the kernels of a bundle; how many layers there are."""
    text = (folder / KERNELS).read_text(encoding="utf-8")
    layers = json.loads((folder / LAYERS).read_text(encoding="utf-8"))
    import tensorrt.plugin as trtp

    _LAYERS[:] = layers
    for kind in NAMES:
        if f"apa::{kind}Kernel" not in _REGISTERED:
            _register(trtp, kind, text)
            _REGISTERED.add(f"apa::{kind}Kernel")
    return len(layers)


_LAYERS: list[dict[str, str]] = []
_REGISTERED: set[str] = set()


def _register(trtp: Any, kind: str, text: str) -> None:
    identity = f"apa::{kind}Kernel"

    def describe(x: trtp.TensorDesc, layer: int) -> trtp.TensorDesc:
        return x.like()

    def choose_formats(
        x: trtp.TensorDesc, layer: int, outputs: tuple[trtp.TensorDesc]
    ) -> list[trtp.AutoTuneCombination]:
        name, _, size = _TYPES[x.dtype.name]
        formats = [one for one in ("LINEAR", *_channels_last(size, kind)) if _fits(x, one)]
        return [trtp.AutoTuneCombination(f"{name}, {name}", f"{one}, {one}") for one in formats]

    def give_kernel(
        x: trtp.TensorDesc, layer: int, outputs: tuple[trtp.TensorDesc], tactic: int
    ) -> tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        _, element, size = _TYPES[x.dtype.name]
        name = f"apa_{NAMES[kind]}_{_LAYERS[layer]['regime']}_{element}"
        count = trtp.SymInt32(_count(trtp, x))
        launch = trtp.KernelLaunchParams()
        launch.block_x = _BLOCK
        launch.grid_x = count // (_BLOCK * _PACKS_A_THREAD * (_PACK_BYTES // size)) + 1
        arguments = trtp.SymIntExprs(1)
        arguments[0] = count
        return name, kernel_text(text, name, bytes.fromhex(_LAYERS[layer]["coefficients"])), launch, arguments

    trtp.register(identity)(describe)
    trtp.autotune(identity)(choose_formats)
    trtp.aot_impl(identity)(give_kernel)


def _channels_last(size: int, kind: str) -> tuple[str, ...]:
    """Formats in which neighbours need no reformatting. The gate of the padding of HWC8 is not 0: units alone."""
    return ("HWC",) if size == 4 else ("HWC8",) if kind == "AGLU" else ()


def _fits(x: Any, layout: str) -> bool:
    """Whether the tensor has the dimensions of this format and at most 2^31 - 1 elements.

    Raises:
        ValueError: it has more in any format.
    """
    largest = list(x.shape.max if x.shape.is_dynamic else x.shape)
    if math.prod(largest) > _MOST:
        raise ValueError(f"{math.prod(largest)} elements; an ahead-of-time kernel counts to {_MOST}")
    if layout == "LINEAR":
        return True
    if len(largest) < 3:
        return False
    largest[-3] = -(-largest[-3] // 8) * 8 if layout == "HWC8" else largest[-3]
    return math.prod(largest) <= _MOST


def _count(trtp: Any, x: Any) -> Any:
    """The elements in memory, padding included, as an expression of the shape."""
    dims = list(x.shape_expr)
    if x.format is not None and x.format.name == "HWC8":
        dims[-3] = trtp.cdiv(dims[-3], 8) * 8
    count = trtp.ShapeExpr(1)
    for dim in dims:
        count = count * dim
    return count
