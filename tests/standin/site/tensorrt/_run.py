"""Engines: deserialized where their plugin is, run by ONNX Runtime on the addresses that were set."""

from __future__ import annotations

import ctypes
import json
import time
from typing import Any

import numpy as np
import onnx
import onnxruntime

from ._build import _ELEMENT, MAGIC, ITensor, has_fault
from ._computing import with_kernels
from ._contract import API, FAULTS, Checked, ContractError, enums
from ._plugins import has_creators

_E = enums()
_WORK = ctypes.CFUNCTYPE(ctypes.c_int)
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT64": np.int64}
_KERNELS = {"Conv": "CaskConvolution", "Gemm": "gemm", "AGLU": "PluginV3", "APA": "PluginV3", "ReduceMean": "kgen"}
_KERNELS |= dict.fromkeys(("AGLUKernel", "APAKernel", "AGLUCodes", "APACodes"), "PluginV3")
_SPELLED = {
    "FLOAT": "Float",
    "HALF": "Half",
    "BF16": "BFloat16",
    "UINT8": "UInt8",
    "INT64": "Int64",
    "INT32": "Int32",
    "INT8": "Int8",
    "FP8": "FP8",
}


class Runtime(Checked):
    def __init__(self, logger: Any) -> None:
        self._logger = logger
        object.__setattr__(self, "engine_host_code_allowed", False)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        content = bytes(serialized_engine)
        reason = self._refusal(content)
        if reason:
            self._logger.log(self._logger.Severity.ERROR, reason)
            return None
        engine = ICudaEngine()
        engine._open(*content.removeprefix(MAGIC).split(b"\n", 1))
        return engine

    def _refusal(self, content: bytes) -> str:
        if not content.startswith(MAGIC):
            return "Magic tag does not match"
        facts = json.loads(content.removeprefix(MAGIC).split(b"\n", 1)[0])
        if facts.get("host_code", facts["embedded"]) and not self.engine_host_code_allowed:
            return "host code is not allowed"
        if has_fault("lost", facts):
            return "Serialization assertion failed"
        if facts["embedded"] and has_creators():
            return "a creator of that name is registered already"
        if facts["kind"].startswith("plugin") and not facts["embedded"] and not has_creators():
            return "Cannot find plugin: AGLU, version: 1, namespace:apa."
        return ""


class ICudaEngine(Checked):
    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}

    def _open(self, facts: bytes, model: bytes) -> None:
        self._facts, self._model = json.loads(facts), onnx.ModelProto.FromString(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        runnable = with_kernels(self._model, self._facts.get("kernels", {}))
        self._kinds = onnx.shape_inference.infer_shapes(runnable).graph
        model = runnable.SerializeToString()
        self._runnable, self._known_shapes = runnable, dict[Any, tuple[int, ...]]()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        graph = self._model.graph
        self._tensors = {value.name: value for value in (*graph.input, *graph.output)}
        self._ready = not self._facts["stripped"]
        self._facts.setdefault("profiles", [self._facts["shapes"]])

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._facts["profiles"])

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        if name not in self._tensors:
            return _E["TensorIOMode"].NONE
        is_input = any(value.name == name for value in self._model.graph.input)
        return _E["TensorIOMode"].INPUT if is_input else _E["TensorIOMode"].OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensor(name).dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensor(name).shape

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        """By the header no dimensions for what is no input, and for a profile that is not there."""
        if not 0 <= profile_index < self.num_optimization_profiles or name not in self._facts["shapes"]:
            raise ContractError(f"the shape of {name} in profile {profile_index}: there is none")
        return [tuple(shape) for shape in self._facts["profiles"][profile_index][name]]

    def _inputs(self) -> list[str]:
        return [value.name for value in self._model.graph.input]

    def _tensor(self, name: str) -> ITensor:
        tensor = ITensor()
        tensor._value = self._tensors[name]
        return tensor

    def _output_shape(self, name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        """For inputs of these shapes; -1 where it depends on what they hold (IExecutionContext::getTensorShape)."""
        key = (name, *sorted(shapes.items()))
        if key not in self._known_shapes:
            self._known_shapes[key] = _infer_shape(self._runnable, name, shapes)
        return self._known_shapes[key]

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        return _E["TensorFormat"].LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    if "get_aliased_input_tensor" in API["classes"]["ICudaEngine"]["methods"]:  # since TensorRT 11

        def get_aliased_input_tensor(self, name: str) -> Any:
            return None

    def create_execution_context(self, *_: Any) -> Any:
        if not self._ready:
            return None
        context = IExecutionContext()
        context._engine = self
        return context

    def create_engine_inspector(self) -> Any:
        inspector = EngineInspector()
        inspector._engine = self
        return inspector


class IExecutionContext(Checked):
    def __init__(self) -> None:
        self._engine: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._work: list[Any] = []
        self._ran = False  # since a shape was set
        self._profile = 0

    @property
    def engine(self) -> Any:
        return self._engine

    @property
    def active_optimization_profile(self) -> int:
        """0 of a new context (ICudaEngine::createExecutionContext)."""
        return self._profile

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """False for one that is not there. The shapes are set after it, and the next run updates what it needs
        (IExecutionContext::setOptimizationProfileAsync)."""
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return False
        self._profile, self._shapes, self._ran = profile_index, {}, False
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """False for what is no input (IExecutionContext::setInputShape)."""
        if name not in self._engine._facts["shapes"]:
            return False
        least, _, largest = self._engine._facts["profiles"][self._profile][name]
        inside = len(shape) == len(least) and all(
            a <= b <= c for a, b, c in zip(least, shape, largest, strict=True)
        )
        if inside:
            self._ran = self._ran and self._shapes.get(name) == tuple(shape)
            self._shapes[name] = tuple(shape)
        return inside

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """An output's is known once those of all inputs are (IExecutionContext::getTensorShape)."""
        declared = self._engine.get_tensor_shape(name)
        if name in self._shapes or -1 not in declared:
            return self._shapes.get(name, declared)
        if name in self._engine._facts["shapes"] or self._unset():
            return declared
        return self._engine._output_shape(name, self._shapes)

    def _unset(self) -> list[str]:
        """Inputs of open sizes whose shape is not set: only those need one."""
        shapes = self._engine._facts["shapes"]
        return [n for n in shapes if n not in self._shapes and -1 in self._engine.get_tensor_shape(n)]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Aligned to 256 bytes; 0 takes it back (IExecutionContext::setTensorAddress)."""
        if memory % 256 or (self._engine and name not in self._engine._tensors):
            return False
        self._addresses.pop(name, None)
        if memory:
            self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        """False for what is no output (IExecutionContext::setOutputAllocator)."""
        if self._engine.get_tensor_mode(name) != _E["TensorIOMode"].OUTPUT:
            return False
        self._allocators[name] = output_allocator
        return True

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        return True

    def set_debug_listener(self, listener: Any) -> bool:
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Of the shapes and addresses of this moment, also where a graph replays it later.

        False where a shape or an address is not set, an output of unknown size has no allocator, or where the first
        run of a shape is to be captured (IExecutionContext::enqueueV3: what changed is updated by the next run,
        which may wait for the device).
        """
        lacking = self._unset()
        lacking += [n for n in self._engine._tensors if n not in self._addresses and n not in self._allocators]
        if not lacking:
            open_sizes = [n for n in self._engine._tensors if -1 in self.get_tensor_shape(n)]
            lacking = [n for n in open_sizes if n not in self._allocators]
        if lacking:
            return False
        recording = ctypes.CDLL("libcuda.so.1").standin_recording(ctypes.c_void_p(stream_handle))
        if recording and not self._ran:
            return False
        self._ran = True
        addresses = dict(self._addresses)
        shapes = {name: self.get_tensor_shape(name) for name in self._engine._inputs()}
        for name, allocator in self._allocators.items():
            shape = self.get_tensor_shape(name)
            size = int(np.prod(shape)) * _type(self._engine, name).itemsize
            current = self._addresses.get(name, 0)
            addresses[name] = allocator.reallocate_output_async(name, current, max(size, 1), 256, stream_handle)
            if not addresses[name]:
                return False
            allocator.notify_shape(name, shape)

        def work() -> int:
            try:
                _compute(self._engine, shapes, addresses)
            except Exception as error:  # noqa: BLE001 - it crosses C
                print(repr(error))
                return 1
            return 0

        self._work.append(_WORK(work))
        return _enqueue(stream_handle, self._work[-1])


def _enqueue(stream: int, work: Any) -> bool:
    """By the driver's queue, which knows whether the stream is recording."""
    return ctypes.CDLL("libcuda.so.1").standin_enqueue(ctypes.c_void_p(stream), work) == 0


def _compute(engine: ICudaEngine, shapes: dict[str, Any], addresses: dict[str, int]) -> None:
    if has_fault("slow", engine._facts):
        time.sleep(0.05)
    feeds = {name: _view(engine, name, addresses[name], shape).copy() for name, shape in shapes.items()}
    names = [value.name for value in engine._model.graph.output]
    for name, value in zip(names, engine._session.run(names, feeds), strict=True):
        wrong = 1.5 if has_fault("wrong", engine._facts) else 1
        _view(engine, name, addresses[name], value.shape)[...] = value * wrong


def _view(engine: ICudaEngine, name: str, address: int, shape: Any) -> np.ndarray:
    kind = _type(engine, name)
    size = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), kind).reshape(shape)


def _type(engine: ICudaEngine, name: str) -> np.dtype:
    return np.dtype(_NUMPY[engine.get_tensor_dtype(name).name])


class EngineInspector(Checked):
    def __init__(self) -> None:
        self._engine: Any = None
        object.__setattr__(self, "execution_context", None)

    def get_engine_information(self, format: Any) -> str:
        """TensorRT 10 and 11 have a field for type and format each, or one for both."""
        if not self._engine._facts["detailed"]:
            raise ContractError("the engine was built without detailed verbosity: the inspector knows names only")
        graph, known = self._engine._model.graph, self._engine._kinds
        kinds = {v.name: v.type.tensor_type.elem_type for v in (*known.value_info, *known.output, *known.input)}
        codes = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        kinds |= {value: kinds[code] for value, code in codes.items() if code in kinds}  # it melts into its reader
        if has_fault("fp32", self._engine._facts):
            kinds = dict.fromkeys(kinds, 1)
        layers = [_layer(node, kinds) for node in graph.node if node.op_type in _KERNELS]
        if "untyped" in FAULTS or not self._knows_shapes():
            for tensor in (tensor for layer in layers for tensor in (*layer["Inputs"], *layer["Outputs"])):
                tensor |= dict.fromkeys(set(tensor) - {"Name"}, "N/A due to dynamic shapes")
        return json.dumps({"Layers": layers, "Bindings": []})

    def _knows_shapes(self) -> bool:
        """By the header: formats are shown once every dynamic input shape of the context is specified."""
        dynamic = [v.name for v in self._engine._model.graph.input if -1 in self._engine.get_tensor_shape(v.name)]
        context = self.execution_context
        return not dynamic or (context is not None and all(name in context._shapes for name in dynamic))


def _layer(node: Any, kinds: dict[str, int]) -> dict[str, Any]:
    """Of what fusion leaves: the rest melts into its neighbours."""
    inputs, outputs = (
        [{"Name": name, **_field(_ELEMENT.get(kinds.get(name, 0)))} for name in names]
        for names in (node.input, node.output)
    )
    return {"Name": node.name, "LayerType": _KERNELS[node.op_type], "Inputs": inputs, "Outputs": outputs}


def _field(kind: str | None) -> dict[str, str]:
    from . import __version__

    spelled = _SPELLED.get(kind or "", "")
    if __version__.startswith("10"):
        return {"Format/Datatype": spelled}
    return {"DataType": spelled, "Format": "Row major linear format (kLINEAR)"}


def _infer_shape(model: onnx.ModelProto, name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Of an output; where a node is unknown to ONNX, a named size is that of the input that has the name."""
    found, named = onnx.ModelProto(), dict[str, int]()
    found.CopyFrom(model)
    for value in found.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            named[dim.dim_param] = size
            dim.dim_value = size
    del found.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(found, data_prop=True).graph.output
    dims = next(value for value in inferred if value.name == name).type.tensor_type.shape.dim
    named.pop("", None)
    return tuple(dim.dim_value if dim.HasField("dim_value") else named.get(dim.dim_param, -1) for dim in dims)
