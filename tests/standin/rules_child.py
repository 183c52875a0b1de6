"""Child process: asks the stand-in for TensorRT the expressions on stdin that test_standin.py lists.

python rules_child.py FILES      as JSON: engine, model, bare, whole, lacking, library, copy
"""

import json
import sys
from pathlib import Path

import tensorrt as trt
from tensorrt._contract import ContractError

logger, files = trt.Logger(), json.loads(sys.argv[1])
engine = trt.Runtime(logger).deserialize_cuda_engine(Path(files["engine"]).read_bytes())
context, registry = engine.create_execution_context(), trt.get_plugin_registry()
creator = type("Creator", (trt.IPluginCreatorV3Quick,), {"name": "A", "plugin_version": "1"})()


def build(*shapes, stop=False, flags=(), libraries=(), ampere=False, more=()):
    memory = serialized(*shapes, stop=stop, flags=flags, libraries=libraries, ampere=ampere, more=more)
    return memory is not None


def host_code(*flags, libraries=()):
    """Whether an engine of these flags is taken only where it is allowed to have some."""
    memory = serialized("x", (1, 4), (1, 4), (8, 4), flags=flags, libraries=libraries)
    runtime = trt.Runtime(logger)
    plain = runtime.deserialize_cuda_engine(memory)
    runtime.engine_host_code_allowed = True
    return plain is None and runtime.deserialize_cuda_engine(memory) is not None


def serialized(*shapes, stop=False, flags=(), libraries=(), ampere=False, more=()):
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    trt.OnnxParser(network, logger).parse_from_file(files["model"])
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    if shapes:
        profile.set_shape(*shapes)
        config.add_optimization_profile(profile)
    for each in more:
        profile = builder.create_optimization_profile()
        profile.set_shape(*each)
        config.add_optimization_profile(profile)
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    config.plugins_to_serialize = list(libraries)
    if ampere:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    monitor = type(
        "Monitor",
        (trt.IProgressMonitor,),
        {"phase_start": lambda *_: None, "step_complete": lambda *_: not stop, "phase_finish": lambda *_: None},
    )
    config.progress_monitor = monitor()
    return builder.build_serialized_network(network, config)


def of_two_profiles():
    """What a context of an engine of two profiles takes."""
    memory = serialized("x", (1, 4), (1, 4), (8, 4), more=[("x", (16, 4), (16, 4), (32, 4))])
    two = trt.Runtime(logger).deserialize_cuda_engine(memory)
    new = two.create_execution_context()
    facts = [two.num_optimization_profiles, [list(s) for s in two.get_tensor_profile_shape("x", 1)]]
    facts += [new.active_optimization_profile, new.set_input_shape("x", (8, 4)), new.set_input_shape("x", (16, 4))]
    facts += [new.set_optimization_profile_async(2, 0), new.set_optimization_profile_async(1, 0)]
    facts += [new.active_optimization_profile, list(new.get_tensor_shape("x")), new.execute_async_v3(0)]
    return [*facts, new.set_input_shape("x", (8, 4)), new.set_input_shape("x", (16, 4))]


def refitted(model):
    """Whether weights go back into an engine that was built without them, and whether it then runs."""
    bare = trt.Runtime(logger).deserialize_cuda_engine(Path(files["bare"]).read_bytes())
    refitter = trt.Refitter(bare, logger)
    before = [
        bare.create_execution_context() is None,
        len(refitter.get_missing_weights()),
        refitter.refit_cuda_engine(),
    ]
    given = trt.OnnxParserRefitter(refitter, logger).refit_from_file(model)
    return [*before, given, refitter.refit_cuda_engine(), bare.create_execution_context() is not None]


def allocated(gives):
    """A run whose output's memory comes from an allocator, and whether it was told the shape."""
    told = []
    methods = {
        "reallocate_output_async": lambda self, name, memory, size, alignment, stream: gives,
        "notify_shape": lambda self, name, shape: told.append(tuple(shape)),
    }
    mine = engine.create_execution_context()
    allocator = type("Allocator", (trt.IOutputAllocator,), methods)()
    mine.set_input_shape("x", (1, 4))
    for name in "xy":
        mine.set_tensor_address(name, 256)
    mine.set_output_allocator("z", allocator)
    return [mine.execute_async_v3(0), told]


def cached(content):
    config = trt.Builder(logger).create_builder_config()
    return config.set_timing_cache(config.create_timing_cache(content), False)


def raises(call, *given):
    try:
        call(*given)
    except ContractError:
        return True
    return False


found = [eval(code) for code in json.load(sys.stdin)]
print(json.dumps(found))
