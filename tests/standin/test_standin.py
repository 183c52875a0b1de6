"""The stand-in for TensorRT sees what the real one would not take, in both majors."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
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
    "a profile of several ranks": "profile.set_shape('x', (1,), (1, 2), (1, 2))",
    "a profile of negative sizes": "profile.set_shape('x', (-1, 2), (1, 2), (4, 2))",
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
RULES = Path(__file__).with_name("rules_child.py")
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
    # two profiles
    (
        "of_two_profiles()",
        [2, [[16, 4], [16, 4], [32, 4]], 0, True, False, False, True, 1, [-1, 4], False, False, True],
    ),
    ("build('x', (1, 4), (1, 4), (8, 4), more=[('x', (1, 5), (1, 5), (8, 5))])", False),
    ("build('x', (1, 4), (1, 4), (8, 4), more=[('x', (9, 4), (9, 4), (9, 4))], flags=['REFIT'])", False),
    ("build('x', (1, 4), (1, 4), (8, 4), more=[('x', (9, 4), (9, 4), (9, 4))], flags=['STRIP_PLAN'])", False),
    (
        "trt.Builder(logger).create_builder_config().add_optimization_profile(trt.Builder(logger).create_optimization_profile())",
        -1,
    ),
    # flags together
    ("build('x', (1, 4), (1, 4), (8, 4), flags=['REFIT_INDIVIDUAL'])", True),
    ("build('x', (1, 4), (1, 4), (8, 4), flags=['REFIT_INDIVIDUAL', 'REFIT'])", False),
    ("build('x', (1, 4), (1, 4), (8, 4), flags=['REFIT_INDIVIDUAL', 'REFIT_IDENTICAL'])", False),
    ("build('x', (1, 4), (1, 4), (8, 4), flags=['FP8'], ampere=True)", False),
    ("build('x', (1, 4), (1, 4), (8, 4), libraries=['a.so', 'a.so'])", False),
    ("[host_code(*f) for f in ((), ('EXCLUDE_LEAN_RUNTIME',), ('VERSION_COMPATIBLE',))]", [False, False, True]),
    ("host_code('VERSION_COMPATIBLE', 'EXCLUDE_LEAN_RUNTIME')", False),
    ("[host_code(*f, libraries=['a.so']) for f in ((), ('VERSION_COMPATIBLE',))]", [False, True]),
    # negative sizes
    ("[context.set_input_shape('x', s) for s in ((-1, 4), (0, 4), (3, -4))]", [False, False, False]),
    # an allocator that gives nothing, missing weights
    ("allocated(0)", [False, []]),
    ("refitted(files['whole'])", [True, 1, False, True, True, True]),
    ("refitted(files['lacking'])", [True, 1, False, False, False, False]),
    # a library twice, by the same path and by another
    (
        "[registry.load_library(path) is not None for path in map(files.get, ('library', 'library', 'copy'))]",
        [True, False, False],
    ),
    ("registry.deregister_library(files['library'])", None),
    ("raises(registry.deregister_library, files['library'])", True),
    ("registry.load_library(files['copy']) is not None", True),
]


PLUGIN = "void* getCreators(int* count) { *count = 4; return 0; }"


@pytest.fixture
def files(tmp_path):
    """Those of RULES: an engine and its model; one without weights, and its model with and without them; a plugin's
    library, and a copy of it."""
    content = standing_in(nonzero=True)
    weights = onnx.numpy_helper.from_array(np.ones(4, np.float32), "w")
    whole = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N, 4] x) => (float[N, 4] y) {y = Add (x, w)}'
    )
    whole.graph.initializer.append(weights)
    lacking = onnx.ModelProto.FromString(whole.SerializeToString())
    lacking.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32), "w"))
    facts = standing_in(stripped=True).split(b"\n", 1)[0]
    written = {
        "engine": content,
        "model": content.split(b"\n", 1)[1],
        "bare": facts + b"\n" + whole.SerializeToString(),
        "whole": whole.SerializeToString(),
        "lacking": lacking.SerializeToString(),
        "library.c": PLUGIN.encode(),
    }
    for name, bytes_ in written.items():
        (tmp_path / name).write_bytes(bytes_)
    library = tmp_path / "library.so"
    subprocess.run(["cc", "-shared", "-fPIC", str(tmp_path / "library.c"), "-o", str(library)], check=True)
    shutil.copy(library, tmp_path / "copy.so")
    names = ("engine", "model", "bare", "whole", "lacking", "library.so", "copy.so")
    return {name.removesuffix(".so"): str(tmp_path / name) for name in names}


def test_what_the_headers_withhold_is_withheld(machine, files):  # noqa: F811
    command = [sys.executable, str(RULES), json.dumps(files)]
    code = json.dumps([code for code, _ in WITHHELD])
    done = subprocess.run(command, input=code, capture_output=True, text=True, env=os.environ | machine.variables())
    assert done.returncode == 0, done.stderr
    assert list(zip((c for c, _ in WITHHELD), json.loads(done.stdout.splitlines()[-1]), strict=True)) == WITHHELD
