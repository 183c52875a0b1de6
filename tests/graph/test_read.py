"""`read_graph`: what is no bounded, ordered graph of tensors is refused by name, and soon."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from apa_deploy.graph.read import MOST_NODES, MOST_VALUES, OnnxFileError, read_graph, sort_nodes

DOMAIN = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]


def value(name, shape=("N", 4), kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, weights=(), functions=()):
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], list(weights))
    return helper.make_model(graph, opset_imports=DOMAIN, ir_version=8, functions=list(functions))


def node(kind, source, target, **more):
    return helper.make_node(kind, source, target, **more)


def function(name, *called):
    """One that calls others, one after the other."""
    names = ["a", *(f"t{i}" for i in range(len(called) - 1)), "b"]
    body = [node(one, [names[i]], [names[i + 1]], domain="f") for i, one in enumerate(called)]
    return helper.make_function("f", name, ["a"], ["b"], body or [node("Exp", ["a"], ["b"])], DOMAIN)


def exponential():
    functions = [function("f0"), *(function(f"f{i}", *[f"f{i - 1}"] * 10) for i in range(1, 20))]
    return model([node("f19", ["x"], ["y"], domain="f")], functions=functions)


def nested(depth):
    graph = helper.make_graph([node("Identity", ["x"], ["o"])], "g", [], [value("o")])
    for _ in range(depth):
        inner = node("If", ["c"], ["o"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([inner], "g", [], [value("o")])
        graph.node[0].attribute.pop()
    return model([node("If", ["c"], ["y"], then_branch=graph)], [numpy_helper.from_array(np.array(True), "c")])


def weight(**fields):
    tensor = TensorProto(**{"name": "w", "data_type": 1, "dims": [4]} | fields)
    return model([node("Add", ["x", "w"], ["y"])], [tensor])


def sparse():
    made = model([node("Add", ["x", "w"], ["y"])])
    made.graph.sparse_initializer.add(dims=[1 << 30, 1 << 30]).values.name = "w"
    return made


def sequence():
    made = model([node("SequenceAt", ["x", "i"], ["y"])])
    made.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    return made


def many_inputs():
    made = model([node("Exp", ["x"], ["y"])])
    made.graph.input.extend(value(f"x{i}") for i in range(MOST_VALUES))
    return made


REFUSED = {
    "many inputs": (many_inputs, f"more than {MOST_VALUES:,} inputs"),
    "cycle": (lambda: model([node("Add", ["x", "b"], ["a"]), node("Exp", ["a"], ["b"])]), "waits for itself"),
    "twice": (lambda: model([node("Exp", ["x"], ["y"]), node("Log", ["x"], ["y"])]), "two nodes make 'y'"),
    "itself": (
        lambda: model([node("f0", ["x"], ["y"], domain="f")], functions=[function("f0", "f0")]),
        "calls itself",
    ),
    "one another": (
        lambda: model([node("a", ["x"], ["y"], domain="f")], functions=[function("a", "b"), function("b", "a")]),
        "calls itself",
    ),
    "exponential": (exponential, f"more than {MOST_NODES:,} nodes"),
    "nested": (lambda: nested(20), "graphs in graphs"),
    "shape": (lambda: weight(dims=[1 << 20, 1 << 20], raw_data=bytes(16)), "with the data of 4 values"),
    "negative": (lambda: weight(dims=[-4], raw_data=bytes(16)), "of shape [-4]"),
    "two places": (lambda: weight(raw_data=bytes(16), float_data=[1.0] * 4), "data in two places"),
    "type": (lambda: weight(data_type=77, raw_data=bytes(16)), "unknown type 77"),
    "sparse": (sparse, "sparse"),
    "sequence": (sequence, "not a tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    make, said = REFUSED[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(OnnxFileError) as caught:
        read_graph(path)
    assert said in caught.value.saw


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    (tmp_path / "text.onnx").write_text("hello" * 99)
    for name in ("folder", "pipe", "loop", "text", "absent", "n" * 300):
        with pytest.raises(OnnxFileError):
            read_graph(tmp_path / f"{name}.onnx")
    with pytest.raises(OnnxFileError):
        read_graph(Path("/dev/zero"))


def test_nodes_are_put_in_order_at_once():
    """In reverse, as many as are allowed: in order within a second or two, not quadratic."""
    count = 20_000
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    made = model([node("Neg", [names[i]], [names[i + 1]]) for i in reversed(range(count))])
    sort_nodes(made.graph)
    assert [n.output[0] for n in made.graph.node] == names[1:]


def test_weights_beside_are_of_their_shape(tmp_path):
    made = weight(raw_data=bytes(16))
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    assert len(read_graph(tmp_path / "m.onnx", weights=True).graph.initializer[0].raw_data) == 16
    outside = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    outside.graph.initializer[0].dims[0] = 8
    (tmp_path / "m.onnx").write_bytes(outside.SerializeToString())
    with pytest.raises(OnnxFileError, match="its weights cannot be read"):
        read_graph(tmp_path / "m.onnx", weights=True)
