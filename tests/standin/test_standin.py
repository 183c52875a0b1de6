"""The stand-in for TensorRT sees what the real one would not take, in both majors."""

import json
import os
import subprocess
import sys

import pytest

from tests.standin.engines import standing_in
from tests.standin.machine import MAJORS, machine  # noqa: F401 - a fixture

CHILD = """
import json, sys
import tensorrt as trt
from tensorrt._contract import ContractError

logger = trt.Logger()
builder = trt.Builder(logger)
config = builder.create_builder_config()
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
context = trt.IExecutionContext()
profile = builder.create_optimization_profile()
found = {}
for name, code in json.load(sys.stdin).items():
    try:
        exec(code)
        found[name] = "taken"
    except (ContractError, AttributeError) as error:
        found[name] = type(error).__name__
print(json.dumps(found))
"""
GOOD = {
    "a flag": "config.set_flag(trt.BuilderFlag.TF32)",
    "a limit": "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)",
    "an attribute": "config.builder_optimization_level = 5",
    "shapes": "profile.set_shape('x', (1, 2), (1, 2), (4, 2))",
    "an address": "context.set_tensor_address('x', 4096)",
}
BAD = {
    "a method that is not there": "config.set_precision('fp16')",
    "an attribute that is not there": "config.max_workspace_size = 1 << 30",
    "an enumerator that is not there": "config.set_flag(trt.BuilderFlag.FAST)",
    "another enumeration": "config.set_flag(trt.MemoryPoolType.WORKSPACE)",
    "a number for an enumerator": "config.set_flag(3)",
    "too many arguments": "config.set_flag(trt.BuilderFlag.TF32, True)",
    "too few arguments": "profile.set_shape('x', (1, 2))",
    "an argument of another name": "config.set_flag(which=trt.BuilderFlag.TF32)",
    "a float for a number of bytes": "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1e9)",
    "a path for a string": "trt.OnnxParser(network, logger).parse_from_file(__import__('pathlib').Path('m.onnx'))",
    "no logger": "trt.Builder(None)",
    "an address that is none": "context.set_tensor_address('x', None)",
    "a weakly typed network": "builder.create_network()",
    "a profile out of order": "profile.set_shape('x', (4, 2), (1, 2), (1, 2))",
    "setting what cannot be set": "context.engine = None",
}
# What each major has and the other lacks.
ONLY = {10: "trt.BuilderFlag.FP16", 11: "trt.ICudaEngine().get_aliased_input_tensor('y')"}


@pytest.fixture(scope="module", params=MAJORS)
def seen(request, machine):  # noqa: F811
    cases = GOOD | BAD | {f"of {major}": code for major, code in ONLY.items()}
    command = [sys.executable, "-c", CHILD]
    environment = os.environ | machine.variables(request.param)
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_what_tensorrt_takes_is_taken(seen):
    assert dict.fromkeys(GOOD, "taken").items() <= seen[1].items()


def test_what_tensorrt_does_not_take_is_seen(seen):
    assert {name for name in BAD if seen[1][name] == "taken"} == set()


def test_majors_differ(seen):
    major, found = seen
    assert {other: found[f"of {other}"] == "taken" for other in MAJORS} == {m: m == major for m in MAJORS}


# What the headers withhold, of an engine of y = AGLU(x) for 1 to 32 rows of 4, and z = NonZero(x).
RULES = """
import json, sys
import tensorrt as trt
from tensorrt._contract import ContractError

logger = trt.Logger()
engine = trt.Runtime(logger).deserialize_cuda_engine(open(sys.argv[1], "rb").read())
context, registry = engine.create_execution_context(), trt.get_plugin_registry()
creator = type("Creator", (trt.IPluginCreatorV3Quick,), {"name": "A", "plugin_version": "1"})()

def build(*shapes, stop=False):
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    trt.OnnxParser(network, logger).parse_from_file(sys.argv[2])
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    if shapes:
        profile.set_shape(*shapes)
        config.add_optimization_profile(profile)
    monitor = type("Monitor", (trt.IProgressMonitor,), {
        "phase_start": lambda *_: None, "step_complete": lambda *_: not stop, "phase_finish": lambda *_: None})
    config.progress_monitor = monitor()
    return builder.build_serialized_network(network, config) is not None

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
"""
WITHHELD = [
    ("engine.get_tensor_mode('w').name", "NONE"),
    ("raises(engine.get_tensor_profile_shape, 'x', 1)", True),
    ("raises(engine.get_tensor_profile_shape, 'y', 0)", True),
    ("raises(trt.Refitter, engine, logger)", True),
    ("context.get_tensor_shape('y')", [-1, 4]),
    ("context.execute_async_v3(0)", False),
    ("[context.set_input_shape('x', s) for s in ((33, 4), (3, 5), (3, 4))]", [False, False, True]),
    ("[context.get_tensor_shape(name) for name in 'xyz']", [[3, 4], [3, 4], [2, -1]]),
    ("[context.set_tensor_address('x', at) for at in (8, 256, 0)]", [False, True, True]),
    ("context.get_tensor_address('x')", 0),
    ("[context.set_tensor_address(name, 256) for name in 'xyzw']", [True, True, True, False]),
    ("context.execute_async_v3(0)", False),
    ("[context.set_output_allocator(name, trt.IOutputAllocator()) for name in 'xwy']", [False, False, True]),
    ("[registry.register_creator(creator, 'apa') for _ in range(2)]", [True, False]),
    ("[cached(content) for content in (b'', b'timed\\n', b'of another version')]", [True, True, False]),
    ("build('x', (1, 4), (1, 4), (8, 4))", True),
    ("build()", False),
    ("build('x', (1, 5), (1, 5), (8, 5))", False),
    ("build('x', (1,), (1,), (8,))", False),
    ("build('w', (1, 4), (1, 4), (8, 4))", False),
    ("build('x', (1, 4), (1, 4), (8, 4), stop=True)", False),
]


def test_what_the_headers_withhold_is_withheld(machine, tmp_path):  # noqa: F811
    (tmp_path / "engine").write_bytes(content := standing_in(nonzero=True))
    (tmp_path / "model.onnx").write_bytes(content.split(b"\n", 1)[1])
    command = [sys.executable, "-c", RULES, str(tmp_path / "engine"), str(tmp_path / "model.onnx")]
    code = json.dumps([code for code, _ in WITHHELD])
    done = subprocess.run(command, input=code, capture_output=True, text=True, env=os.environ | machine.variables())
    assert done.returncode == 0, done.stderr
    assert list(zip((c for c, _ in WITHHELD), json.loads(done.stdout.splitlines()[-1]), strict=True)) == WITHHELD
