"""TensorRT for RTX's own ONNX parser makes the plugin from a canonical file, with the right fields.

It is the same parser as TensorRT's and needs no GPU. RTX itself runs no plugins: see trt_parser_child.py.
"""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import trt_building as building
from onnx import TensorProto, helper

from apa_deploy.graph import node as canonical
from apa_deploy.maths import KINDS, Parameters

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
# Parameters, and how they lie in an engine: floats as float32, the axis only where it matters.
NODES = {
    "scalar": (Parameters((0.5,), (1.25,)), "lambda=0.5 kappa=1.25"),
    "limit": (Parameters((0.0,), (-0.75,)), "lambda=0 kappa=-0.75"),
    "channels": (Parameters((0.5, 0.0, 2.0), (1.0, 2.0, 3.0)), "lambda=0.5,0,2 kappa=1,2,3"),
    "last": (Parameters((0.5,), (1.0, 2.0, 4.0, 8.0), -1), "lambda=0.5 kappa=1,2,4,8 axis=-1"),
}
FOUND = "Found registered plugin: {}. Importing this node as a plugin."
CREATED = "Successfully created plugin: {}"


@pytest.fixture(scope="module", autouse=True)
def _rtx():
    reason = "TensorRT for RTX is not installed: pip install tensorrt-rtx-cu13"
    if subprocess.run([sys.executable, "-c", "import tensorrt_rtx"], capture_output=True).returncode:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def spy(tmp_path_factory):
    """A library before ours that writes down what ours made (trt_spy.cc)."""
    folder = tmp_path_factory.mktemp("spy")
    compiled = building.compiled(building.TESTS / "trt_spy.cc", folder / "spy.o", "-fPIC")
    return building.linked([compiled], folder / "libspy.so", "-shared")


def _model(path, node, element=FLOAT, functions=()):
    """The node between x and y, over [N, 3, 5, 4]."""
    x, y = (helper.make_tensor_value_info(name, element, ["n", 3, 5, 4]) for name in "xy")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(canonical.DOMAIN, canonical.VERSION)]
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    onnx.save(model, path)
    return path


def _node(kind, parameters):
    return canonical.make_node(kind, "x", "y", parameters, name="layer")


def _parser_log(library, model, **environment):
    command = [sys.executable, str(building.TESTS / "trt_parser_child.py"), str(library), str(model)]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    return done.stdout.splitlines(), done.stderr


def _spied(spy, tmp_path, node, element=FLOAT):
    """The parser's log, and what the plugin would keep in an engine."""
    file = tmp_path / "fields"
    model = _model(tmp_path / "m.onnx", node, element)
    log, said = _parser_log(spy, model, SPIED=str(building.library()), SPY_LOG=str(file))
    assert file.exists(), (log, said)
    return log, file.read_text().splitlines()


@pytest.mark.parametrize("element", [FLOAT, HALF])
@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_node_becomes_a_plugin_with_its_fields(tmp_path, spy, kind, name, element):
    parameters, kept = NODES[name]
    log, made = _spied(spy, tmp_path, _node(kind, parameters), element)
    assert FOUND.format(kind) in log
    assert CREATED.format(kind) in log
    assert made == [f"{kind} layer {kept}"]


@pytest.mark.parametrize("element", [FLOAT, HALF])
@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_writes_codes(tmp_path, spy, kind, element):
    node = _node(kind, NODES["channels"][0])
    canonical.write_scale_out(node, 0.05)
    log, made = _spied(spy, tmp_path, node, element)
    assert CREATED.format(f"{kind}Codes") in log
    assert made == [f"{kind}Codes layer {NODES['channels'][1]} scale_out={np.float32(0.05):.9g}"]


@pytest.mark.parametrize("codes", [False, True])
def test_no_field_is_missed(codes, tmp_path, spy):
    """The parser warns of each announced field that a node lacks: hence plugins of their own for codes."""
    node = _node("AGLU", NODES["scalar"][0])
    if codes:
        canonical.write_scale_out(node, 0.05)
    log, _ = _spied(spy, tmp_path, node)
    assert CREATED.format("AGLUCodes" if codes else "AGLU") in log
    assert not [line for line in log if "not found in plugin node" in line]


def test_parameters_are_float32(tmp_path, spy):
    """ONNX keeps float32 attributes: what it cannot hold exactly is rounded once, there."""
    _, made = _spied(spy, tmp_path, _node("AGLU", Parameters((1e-8,), (0.1,))))
    values = dict(part.split("=") for part in made[0].split()[2:])
    assert np.float32(values["lambda"]) == np.float32(1e-8)
    assert np.float32(values["kappa"]) == np.float32(0.1)


def test_the_plugin_is_preferred_to_a_function_of_the_same_name(tmp_path):
    function = helper.make_function(
        canonical.DOMAIN,
        "AGLU",
        ["z"],
        ["a"],
        [helper.make_node("Neg", ["z"], ["a"])],
        [helper.make_opsetid("", 20)],
        ["lambda", "kappa", "axis", "plugin_version", "plugin_namespace"],
    )
    model = _model(tmp_path / "m.onnx", _node("AGLU", NODES["scalar"][0]), functions=[function])
    with_library, _ = _parser_log(building.library(), model)
    without, _ = _parser_log("-", model)
    assert CREATED.format("AGLU") in with_library
    assert CREATED.format("AGLU") not in without
    assert without[-1].startswith("parsed: True")


REFUSED = {
    "negative lambda": {"lambda": [-1.0]},
    "NaN": {"kappa": [float("nan")]},
    "unequal lengths": {"lambda": [1.0, 2.0], "kappa": [1.0, 2.0, 3.0]},
    "text": {"lambda": "one"},
    "axis as a float": {"axis": 1.0},
    "no scale": {},
    "scale 0": {"scale_out": [0.0]},
    "scales a channel": {"scale_out": [0.1, 0.1]},
    "a scale as an integer": {"scale_out": 1},
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_field_is_a_parse_error(tmp_path, case):
    kind = "AGLUCodes" if "scale" in case else "AGLU"
    attributes = {**canonical.attributes(NODES["scalar"][0]), **REFUSED[case]}
    bad = helper.make_node(kind, ["x"], ["y"], name="bad", domain=canonical.DOMAIN, **attributes)
    log, said = _parser_log(building.library(), _model(tmp_path / "m.onnx", bad))
    assert log[-1].startswith("parsed: False")
    assert f"[apa] {kind} 'bad': field" in said
