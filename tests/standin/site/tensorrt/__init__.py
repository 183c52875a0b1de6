"""A stand-in for TensorRT, for tests on machines without a GPU. Every call, attribute and argument is checked.

What exists, with which arguments, comes from the real package's type information (`tests/standin/api.py`, as the
JSON file that STANDIN_API names): an unknown method, attribute, enumerator or argument, or one of a wrong type, is
an error. An engine is the ONNX file itself, and ONNX Runtime runs it on the addresses that the program gave.

STANDIN_FAULTS, separated by commas: "stop" ends at the first call that a device must answer; "wrong:KIND" spoils
the outputs, "fp32:KIND" the types, "slow:KIND" the speed, "refused:KIND" the build of engines with the activation
or the precision KIND; "nocreator" makes the parser take function bodies, "lost weights" the
refitter find none; "die" aborts the process. STANDIN_CALLS: a file that every call is written to.
"""

import os

from ._contract import API, FUNCTIONS, enums

__version__ = API["version"]
globals().update(enums())
DataType = enums()["DataType"]
_NAMES = {
    "float32": "FLOAT",
    "float16": "HALF",
    "bfloat16": "BF16",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
}
_NAMES |= {"uint8": "UINT8", "bool": "BOOL", "fp8": "FP8", "int4": "INT4", "fp4": "FP4", "e8m0": "E8M0"}
globals().update({name: DataType[member] for name, member in _NAMES.items() if member in DataType.__members__})

from . import _quick  # noqa: E402
from ._build import (  # noqa: E402
    Builder,
    IBuilderConfig,
    IHostMemory,
    ILayer,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    ITimingCache,
    OnnxParser,
)
from ._plugins import IPluginRegistry, get_plugin_registry, init_libnvinfer_plugins  # noqa: E402
from ._refit import OnnxParserRefitter, Refitter  # noqa: E402
from ._run import (  # noqa: E402
    EngineInspector,
    ICudaEngine,
    IExecutionContext,
    Runtime,
)
from ._user import IDebugListener, ILogger, IOutputAllocator, IProgressMonitor, Logger  # noqa: E402

globals().update({one.__name__: one for one in _quick.NAMES})
if lean := os.environ.get("STANDIN_LEAN"):
    __path__.append(lean)  # `tensorrt.plugin` is NVIDIA's own code

__all__ = [
    "FUNCTIONS",
    "Builder",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IDebugListener",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IOutputAllocator",
    "IPluginRegistry",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "Logger",
    "OnnxParser",
    "OnnxParserRefitter",
    "Refitter",
    "Runtime",
    "get_plugin_registry",
    "init_libnvinfer_plugins",
]
