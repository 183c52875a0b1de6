"""Networks, options and the builder. A serialized engine is a line of JSON and the ONNX file."""

from __future__ import annotations

import json
import os
from typing import Any

import onnx

from ._codes import scale_out, wrong_types
from ._contract import API, FAULTS, Checked, ContractError, enums
from ._plugins import creator_of, has_creators
from ._quick import kernel_of

_E = enums()
_ELEMENT = {1: "FLOAT", 10: "HALF", 16: "BF16", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 17: "FP8"}
MAGIC = b"STANDIN"


class DeviceReached(BaseException):
    """The first call that only a device can answer, with everything before it in order."""


class IHostMemory(Checked):
    def __init__(self) -> None:
        self._content = b""

    @property
    def nbytes(self) -> int:
        return len(self._content)

    def __bytes__(self) -> bytes:
        return self._content

    def __len__(self) -> int:
        return len(self._content)

    def __enter__(self) -> memoryview:
        return memoryview(self._content)

    def __exit__(self, *_: Any) -> None:
        pass


def memory(content: bytes) -> IHostMemory:
    made = IHostMemory()
    made._content = content
    return made


class ITensor(Checked):
    def __init__(self) -> None:
        self._value: Any = None

    @property
    def name(self) -> str:
        return self._value.name

    @property
    def dtype(self) -> Any:
        return _E["DataType"][_ELEMENT[self._value.type.tensor_type.elem_type]]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.dim_value or -1 for dim in self._value.type.tensor_type.shape.dim)

    @property
    def is_shape_tensor(self) -> bool:
        return False


class ILayer(Checked):
    def __init__(self) -> None:
        self._node: Any = None

    @property
    def name(self) -> str:
        return self._node.name

    if "precision_is_set" in API["classes"]["ILayer"]["properties"]:  # gone in TensorRT 11

        @property
        def precision_is_set(self) -> bool:
            return False

    @property
    def type(self) -> Any:
        if creator_of(self._node) or self._node.op_type == "ScatterElements":  # which the parser has a plugin for
            return _E["LayerType"].PLUGIN_V3
        plugin = self._node.domain == "com.apa" and has_creators() and "nocreator" not in FAULTS
        named = any(attribute.name == "plugin_namespace" for attribute in self._node.attribute)
        return _E["LayerType"].PLUGIN_V3 if plugin and named else _E["LayerType"].ELEMENTWISE


class INetworkDefinition(Checked):
    def __init__(self) -> None:
        self._flags, self._model = 0, None

    def get_flag(self, flag: Any) -> bool:
        return bool(self._flags & 1 << int(flag))

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    def get_input(self, index: int) -> ITensor:
        tensor = ITensor()
        tensor._value = self._model.graph.input[index]
        return tensor

    @property
    def num_layers(self) -> int:
        return len(self._model.graph.node)

    def get_layer(self, index: int) -> ILayer:
        layer = ILayer()
        layer._node = self._model.graph.node[index]
        return layer

    def __len__(self) -> int:
        return self.num_layers

    def __getitem__(self, index: int) -> ILayer:
        if index >= self.num_layers:
            raise IndexError(index)
        return self.get_layer(index)


class OnnxParser(Checked):
    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self._errors, self._flags = network, 0, 0

    @property
    def flags(self) -> int:
        return self._flags

    @flags.setter
    def flags(self, value: int) -> None:
        self._flags = value

    @property
    def num_errors(self) -> int:
        return self._errors

    def parse_from_file(self, model: str) -> bool:
        onnx.checker.check_model(model)
        self._network._model = onnx.load(model)
        return True


class IOptimizationProfile(Checked):
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        same_rank = len(min) == len(opt) == len(max)
        if not same_rank or not all(0 <= a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
            raise ContractError(f"profile {min} {opt} {max}")
        self._shapes[input] = [list(min), list(opt), list(max)]

    def __bool__(self) -> bool:
        return bool(self._shapes)


class ITimingCache(Checked):
    def __init__(self) -> None:
        self._content = b""

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        """Not what another version made (ITimingCache::combine)."""
        if not _is_cache(input_cache._content):
            return False
        self._content += input_cache._content
        return True

    def serialize(self) -> IHostMemory:
        return memory(self._content + b"timed\n")


def _is_cache(content: bytes) -> bool:
    return not content.replace(b"timed\n", b"")


class IBuilderConfig(Checked):
    def __init__(self) -> None:
        self._flags = {_E["BuilderFlag"].TF32}
        self._pools: dict[Any, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: Any = None
        self._default()

    def _default(self) -> None:
        for name, value in (
            ("progress_monitor", None),
            ("int8_calibrator", None),
            ("plugins_to_serialize", []),
            ("profiling_verbosity", _E["ProfilingVerbosity"].LAYER_NAMES_ONLY),
            ("builder_optimization_level", 3),
            ("hardware_compatibility_level", _E["HardwareCompatibilityLevel"].NONE),
            ("engine_capability", _E["EngineCapability"].STANDARD),
            ("default_device_type", _E["DeviceType"].GPU),
            ("DLA_core", -1),
        ):
            if name == "DLA_core" or name in API["classes"]["IBuilderConfig"]["properties"]:
                object.__setattr__(self, name, value)

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool, 0)

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache:
        cache = ITimingCache()
        cache._content = bytes(serialized_timing_cache)
        return cache

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Not what another version or device made (IBuilderConfig::setTimingCache)."""
        if not _is_cache(cache._content):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        return self._cache

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """-1 for one without shapes (IBuilderConfig::addOptimizationProfile)."""
        if not profile:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def get_tactic_sources(self) -> int:
        return 0

    def get_preview_feature(self, feature: Any) -> bool:
        return False

    if "get_quantization_flag" in API["classes"]["IBuilderConfig"]["methods"]:  # gone in TensorRT 11

        def get_quantization_flag(self, flag: Any) -> bool:
            return False


class Builder(Checked):
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        if not flags & 1 << int(_E["NetworkDefinitionCreationFlag"].STRONGLY_TYPED):
            raise ContractError("a network that is not strongly typed")
        network = INetworkDefinition()
        network._flags = flags
        return network

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        if "stop" in FAULTS:
            raise DeviceReached("build_serialized_network")
        if "die" in FAULTS:
            os.abort()
        wrong = _wrong_options(config)
        profiles = [_shapes_to_build(network, one) for one in config._profiles or [IOptimizationProfile()]]
        wrong += [one for one in profiles if isinstance(one, str)]
        if wrong:
            self._logger.log(self._logger.Severity.ERROR, "; ".join(wrong))
            return None
        shapes: Any = profiles[0]
        kernels = _kernels(network, shapes)
        plugin = any(layer.type == _E["LayerType"].PLUGIN_V3 for layer in network)
        codes = [node for node in network._model.graph.node if scale_out(node)]
        if wrong := wrong_types(network._model.graph, codes):
            self._logger.log(self._logger.Severity.ERROR, wrong)
            return None
        kind = "aot" if kernels else "plugin-codes" if codes else "plugin" if plugin else "decomposed"
        precision = _precision(network._model)
        if has_fault("refused", {"kind": kind, "precision": precision}):
            self._logger.log(self._logger.Severity.ERROR, "Could not find any implementation for node")
            return None
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Tactics", "Building engine", 1)
            goes_on = monitor.step_complete("Tactics", 0)
            monitor.phase_finish("Tactics")
            monitor.phase_finish("Building engine")
            if not goes_on:  # IProgressMonitor::stepComplete: the program has stopped the build
                return None
        facts = {
            "kind": kind,
            "precision": precision,
            **_host_code(config),
            "stripped": config.get_flag(_E["BuilderFlag"].STRIP_PLAN),
            "detailed": config.profiling_verbosity == _E["ProfilingVerbosity"].DETAILED,
            "shapes": shapes,
            "profiles": profiles,
            "kernels": kernels,
        }
        return memory(MAGIC + json.dumps(facts).encode() + b"\n" + network._model.SerializeToString())


def _wrong_options(config: IBuilderConfig) -> list[str]:
    """What does not go together (BuilderFlag; IBuilderConfig::addOptimizationProfile, setPluginsToSerialize)."""
    refit = ("REFIT", "REFIT_IDENTICAL", "STRIP_PLAN")
    has = {name for name in (*refit, "REFIT_INDIVIDUAL", "FP8") if _has_flag(config, name)}
    ampere = config.hardware_compatibility_level == _E["HardwareCompatibilityLevel"].AMPERE_PLUS
    plugins = config.plugins_to_serialize
    rules = (
        (has & {*refit} and len(config._profiles) > 1, "more than one profile for an engine that can be refitted"),
        (len(set(plugins)) != len(plugins), "a plugin library twice"),
        (
            "REFIT_INDIVIDUAL" in has and has & {"REFIT", "REFIT_IDENTICAL"},
            "REFIT_INDIVIDUAL with another of its kind",
        ),
        ("FP8" in has and ampere, "FP8 for Ampere and later"),
    )
    return [what for wrong, what in rules if wrong]


def _has_flag(config: IBuilderConfig, name: str) -> bool:
    return name in _E["BuilderFlag"].__members__ and config.get_flag(_E["BuilderFlag"][name])


def _host_code(config: IBuilderConfig) -> dict[str, bool]:
    """Plugins go into version-compatible engines alone (setPluginsToSerialize). Those carry a runtime too, unless
    it is left out; of other engines that flag says nothing (BuilderFlag::kEXCLUDE_LEAN_RUNTIME)."""
    compatible = config.get_flag(_E["BuilderFlag"].VERSION_COMPATIBLE)
    embedded = compatible and bool(config.plugins_to_serialize)
    return {
        "embedded": embedded,
        "host_code": embedded or (compatible and not config.get_flag(_E["BuilderFlag"].EXCLUDE_LEAN_RUNTIME)),
    }


def _shapes_to_build(network: INetworkDefinition, profile: IOptimizationProfile) -> dict[str, Any] | str:
    """The profile's, by input; or what is wrong with them (IOptimizationProfile::setDimensions)."""
    inputs = {t.name: t.shape for t in map(network.get_input, range(network.num_inputs))}
    shapes = dict(profile._shapes)
    for name, given in shapes.items():
        fits = name in inputs and all(len(shape) == len(inputs[name]) for shape in given)
        if not fits or any(own not in (-1, size) for s in given for own, size in zip(inputs[name], s, strict=True)):
            return f"the profile has {name} as {given}, the network has {inputs.get(name)}"
    if lacking := [name for name, shape in inputs.items() if -1 in shape and name not in shapes]:
        return f"no shapes of {', '.join(lacking)} in the profile"
    return {name: [list(shape)] * 3 for name, shape in inputs.items()} | shapes


def has_fault(name: str, facts: dict[str, Any]) -> bool:
    """Whether an engine of this kind, or of this precision, has the fault."""
    return any(f"{name}:{facts.get(key)}" in FAULTS for key in ("kind", "precision"))


def _precision(model: onnx.ModelProto) -> str:
    """As the graph says: of its codes, or of its weights."""
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    return next((name for kind, name in ((3, "int8"), (17, "fp8"), (10, "fp16")) if kind in kinds), "fp32")


def _kernels(network: INetworkDefinition, shapes: dict[str, Any]) -> dict[str, Any]:
    """Of every node of a Python plugin, by the value that it writes; as if it were of the input's sizes."""
    graph = network._model.graph
    nodes = [node for node in graph.node if node.domain == "com.apa" and node.op_type.endswith("Kernel")]
    if not nodes:
        return {}
    kinds = {
        v.name: v.type.tensor_type.elem_type
        for v in onnx.shape_inference.infer_shapes(network._model).graph.value_info
    }
    dtype = _E["DataType"][_ELEMENT[next((kinds[n.input[0]] for n in nodes if n.input[0] in kinds), 1)]]
    profile = next(iter(shapes.values()))
    return {node.output[0]: kernel_of(creator_of(node), node, dtype, profile) for node in nodes}
