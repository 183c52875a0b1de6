"""What `tensorrt.plugin` (NVIDIA's code, from the lean runtime's wheel) wants of the compiled module, and what
TensorRT does with a Python plugin: create it, ask it for formats, a kernel and a launch.

Every rule is that of the comments of IPluginV3Quick* and KernelLaunchParams; what breaks one is a ContractError.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np

from ._contract import ContractError, enums, known_as

_E = enums()


class IPluginV3:
    pass


class IPluginV3QuickCore:
    pass


class IPluginV3QuickBuild:
    pass


class IPluginV3QuickAOTBuild(IPluginV3QuickBuild):
    pass


class IPluginV3QuickRuntime:
    pass


class IPluginCreatorV3Quick:
    pass


known_as("IPluginCreatorInterface", IPluginCreatorV3Quick)


class PluginField:
    def __init__(self, name: str, data: Any, type: Any) -> None:
        self.name, self.data, self.type = name, data, type


class PluginFieldCollection(list):
    pass


class Dims(list):
    MAX_DIMS = 8


class DimsExprs(list):
    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


class PluginTensorDesc:
    def __init__(self) -> None:
        self.dims, self.type, self.format, self.scale = Dims(), None, None, 0.0


class DynamicPluginTensorDesc:
    def __init__(self, desc: PluginTensorDesc, least: Any, usual: Any, largest: Any) -> None:
        self.desc, self.min, self.opt, self.max = desc, least, usual, largest


class IDimensionExpr:
    """A number, or a function of the sizes that are known when the engine runs."""

    def __init__(self, evaluate: Any, constant: bool) -> None:
        self._evaluate, self._constant = evaluate, constant

    def is_constant(self) -> bool:
        return self._constant

    def get_constant_value(self) -> int:
        return self._evaluate({})


class IExprBuilder:
    def constant(self, value: int) -> IDimensionExpr:
        return IDimensionExpr(lambda _: value, True)

    def operation(self, op: Any, first: IDimensionExpr, second: IDimensionExpr) -> IDimensionExpr:
        compute = _OPERATIONS[op.name]

        def evaluate(sizes: dict) -> int:
            found = compute(first._evaluate(sizes), second._evaluate(sizes))
            if not 0 <= found < 2**31:
                raise ContractError(f"{op.name} gives {found}, which is no int32")
            return found

        return IDimensionExpr(evaluate, first._constant and second._constant)


_OPERATIONS = {
    "SUM": lambda a, b: a + b,
    "PROD": lambda a, b: a * b,
    "SUB": lambda a, b: a - b,
    "FLOOR_DIV": lambda a, b: a // b,
    "CEIL_DIV": lambda a, b: -(-a // b),
    "MAX": max,
    "MIN": min,
}


class ISymExpr:
    pass


class ISymExprs(list):
    @property
    def nbSymExprs(self) -> int:  # noqa: N802 - TensorRT's
        return len(self)

    @nbSymExprs.setter
    def nbSymExprs(self, count: int) -> None:  # noqa: N802
        self[:] = [None] * count


class KernelLaunchParams:
    pass


NAMES = (
    IPluginV3, IPluginV3QuickCore, IPluginV3QuickBuild, IPluginV3QuickAOTBuild, IPluginV3QuickRuntime,
    IPluginCreatorV3Quick, PluginField, PluginFieldCollection, Dims, DimsExprs, PluginTensorDesc,
    DynamicPluginTensorDesc, IDimensionExpr, IExprBuilder, ISymExpr, ISymExprs, KernelLaunchParams,
)  # fmt: skip


def kernel_of(creator: Any, node: Any, dtype: Any, profile: tuple[Any, Any, Any], format: str = "LINEAR") -> dict:
    """What the plan keeps of a node: its kernel, how it is launched at each size of the profile, what it counts.

    Raises:
        ContractError: TensorRT would refuse it.
    """
    given = {attribute.name: attribute for attribute in node.attribute}
    fields = [
        PluginField(field.name, np.array([given[field.name].i], np.int32), _E["PluginFieldType"].INT32)
        for field in creator.field_names
    ]
    request = _E["QuickPluginCreationRequest"]
    plugin = creator.create_plugin(
        creator.name, creator.plugin_namespace, PluginFieldCollection(fields), _E["TensorRTPhase"].BUILD, request(0)
    )
    if not isinstance(plugin, IPluginV3QuickAOTBuild):
        raise ContractError(f"{creator.name} is not compiled ahead of time")
    rank = len(profile[0])
    if plugin.get_output_data_types([dtype], [rank]) != [dtype]:
        raise ContractError("an output of another type")
    open_sizes = [least != largest for least, largest in zip(profile[0], profile[2], strict=True)]
    sizes = [
        IDimensionExpr(lambda known, at=at, size=size: known.get(at, size), not is_open)
        for at, (is_open, size) in enumerate(zip(open_sizes, profile[1], strict=True))
    ]
    plugin.get_output_shapes([sizes], [], IExprBuilder())
    both = [_described(dtype, format, open_sizes, profile) for _ in range(2)]
    combinations = plugin.get_supported_format_combinations(both, 1)
    pairs = list(zip(combinations[::2], combinations[1::2], strict=True))
    wanted = _E["TensorFormat"][format]
    if not any((a.type, a.format, b.type, b.format) == (dtype, wanted, dtype, wanted) for a, b in pairs):
        raise ContractError(f"{creator.name} does not take {dtype.name} in {format}")
    plugin.configure_plugin(both[:1], both[1:])
    if plugin.get_valid_tactics():
        raise ContractError("tactics that were not asked for")
    plugin.set_tactic(0)
    launch, arguments = KernelLaunchParams(), ISymExprs()
    plugin.get_launch_params([sizes], both, 1, launch, arguments, IExprBuilder())
    name, ptx = plugin.get_kernel([both[0].desc], [both[1].desc])
    return _kernel(name, ptx.decode(), launch, arguments, profile)


def _described(dtype: Any, format: str, open_sizes: Any, profile: Any) -> DynamicPluginTensorDesc:
    desc = PluginTensorDesc()
    desc.dims = Dims([-1 if is_open else size for is_open, size in zip(open_sizes, profile[1], strict=True)])
    desc.type, desc.format = dtype, _E["TensorFormat"][format]
    return DynamicPluginTensorDesc(desc, *profile)


def _kernel(name: str, ptx: str, launch: KernelLaunchParams, arguments: ISymExprs, profile: Any) -> dict:
    entries = re.findall(r"\.visible \.entry (\w+)\(", ptx)
    if entries != [name]:
        raise ContractError(f"kernels {entries} in the PTX of {name}")
    listed = re.search(r"apa_coefficients\[32\] = \{([^}]*)\}", ptx)
    values = bytes(int(one) for one in listed[1].split(","))

    def at(shape: Any, one: Any) -> int:
        return one.expr._evaluate(dict(enumerate(shape)))

    launches = [[at(shape, launch.grid_x), at(shape, launch.block_x), at(shape, arguments[0])] for shape in profile]
    return {"name": name, "coefficients": list(struct.unpack("<6f2i", values)), "launches": launches}
