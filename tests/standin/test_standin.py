"""The stand-in for TensorRT sees what the real one would not take, in both majors."""

import json
import os
import subprocess
import sys

import pytest

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
