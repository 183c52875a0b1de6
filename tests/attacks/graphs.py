"""Hostile ONNX files, arrays, passports and class names: rows of `files.FILES`, and what reads each kind."""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph.test_read import REFUSED, model, node, value, weight

CONDITION = numpy_helper.from_array(np.array(True), "c")


def saved(make: Callable[[], onnx.ModelProto]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(make().SerializeToString())


def good() -> onnx.ModelProto:
    return model([node("Sigmoid", ["x"], ["y"])])


def aglu(**attributes: object) -> onnx.ModelProto:
    given = {"lambda": [0.5], "kappa": [1.0]} | attributes
    made = node("AGLU", ["x"], ["y"], domain="com.apa", **{k: v for k, v in given.items() if v is not None})
    one = model([made])
    one.opset_import.add(domain="com.apa", version=1)
    return one


def loop(*body: onnx.NodeProto, trips: str = "") -> onnx.ModelProto:
    inside = helper.make_graph(
        [*body, node("Exp", ["v"], ["v2"])],
        "b",
        [value("i", [], TensorProto.INT64), value("c1", [], TensorProto.BOOL), value("v")],
        [value("c2", [], TensorProto.BOOL), value("v2")],
    )
    return model([node("Loop", [trips, "c", "x"], ["y"], body=inside)], [CONDITION])


def huge(kind: str, name: str, array: object) -> onnx.ModelProto:
    more = [numpy_helper.from_array(np.ones(1, np.float32), "one")]
    inputs = {"ConstantOfShape": [name], "Expand": ["one", name], "Tile": ["x", name]}[kind]
    nodes = [node(kind, inputs, ["w"]), node("ReduceMax", ["w"], ["t"]), node("Add", ["x", "t"], ["y"])]
    return model(nodes, [numpy_helper.from_array(np.array(array), name), *more])


def doubled(times: int) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(times))]
    chain = [node("Concat", [a, a], [b], axis=1) for a, b in itertools.pairwise(names)]
    last = node("ReduceMax", names[-1:], ["t"])
    return model([*chain, last, node("Add", ["x", "t"], ["y"])])


def sized(size: int) -> onnx.ModelProto:
    made = good()
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    return made


def text_input() -> onnx.ModelProto:
    made = model([node("Identity", ["x"], ["y"])])
    for one in (*made.graph.input, *made.graph.output):
        one.type.tensor_type.elem_type = TensorProto.STRING
    return made


def metadata(key: str, text: str) -> onnx.ModelProto:
    made = aglu()
    made.metadata_props.add(key=key, value=text)
    return made


def bytes_for_a_name(path: Path) -> None:
    path.write_bytes(good().SerializeToString().replace(b"Sigmoid", b"Sigm\xff\xfe\xc3"))


def outside(**external: object) -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], ["y"])], [TensorProto(name="w", data_type=1, dims=[4], data_location=1)])
    for key, one in external.items():
        made.graph.initializer[0].external_data.add(key=key, value=str(one))
    return made


def no_type() -> onnx.ModelProto:
    made = good()
    made.graph.input[0].ClearField("type")
    return made


def arrays(**given: object) -> Callable[[Path], object]:
    return lambda path: np.savez(path, **given)


def bomb(path: Path) -> None:
    """A header that promises 2^60 floats, in a compressed member of nothing but zeros."""
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.ljust(127) + b"\n" + bytes(1 << 24))


def written(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def linked(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


PASSPORT = {"schema_version": 1, "created": "", "format": "trt", "options": {}, "architecture": "", "weights": "",
            "input_shape": [3], "output_names": [], "inputs": [], "outputs": [], "versions": {},
            "activations": []}  # fmt: skip
ONNX = {
    f"onnx: {name}": (saved(make), said) for name, (make, said) in REFUSED.items()
} | {
    "onnx: a pipe": (os.mkfifo, "pipe or a device"),
    "onnx: an endless device": (linked("/dev/zero"), "pipe or a device"),
    "onnx: a folder": (Path.mkdir, "folder"),
    "onnx: a link to nothing": (linked("/nowhere"), "No such file"),
    "onnx: text": (written("hello" * 99), ""),
    "onnx: bytes for a name": (bytes_for_a_name, "no text"),
    "onnx: a long name": (saved(lambda: model([node("Exp", ["x"], ["y"], name="n" * 10**6)])), "characters"),
    "onnx: a loop without end": (saved(lambda: loop(node("Identity", ["c1"], ["c2"]))), "without an end"),
    "onnx: 10^5 nodes": (
        saved(lambda: model([node("Neg", [f"v{i}" if i else "x"], [f"v{i + 1}" if i < 99_999 else "y"])
                             for i in range(100_000)])), "more than 50,000 nodes"),
    "onnx: ConstantOfShape": (saved(lambda: huge("ConstantOfShape", "s", [1 << 20, 1 << 20])), "elements"),
    "onnx: Expand": (saved(lambda: huge("Expand", "s", [1 << 20, 1 << 20])), "elements"),
    "onnx: Tile": (saved(lambda: huge("Tile", "s", [1 << 20, 1 << 16])), "elements"),
    "onnx: doubled 40 times": (saved(lambda: doubled(40)), "elements"),
    "onnx: a size below 0": (saved(lambda: sized(-3)), "below 0"),
    "onnx: a name with NUL": (saved(lambda: model([node("Exp", ["x"], ["y"], name="a\0b")])), "NUL"),
    "onnx: text for an input": (saved(text_input), "is text"),
    "onnx: an input without a type": (saved(no_type), ""),
    "onnx: lambda NaN": (saved(lambda: aglu(**{"lambda": [float("nan")]})), "finite"),
    "onnx: lambda below 0": (saved(lambda: aglu(**{"lambda": [-0.5]})), ">= 0"),
    "onnx: no kappa": (saved(lambda: aglu(kappa=None)), "kappa"),
    "onnx: text for lambda": (saved(lambda: aglu(**{"lambda": "half"})), "lambda"),
    "onnx: a million channels": (saved(lambda: aglu(**{"lambda": [0.5] * 10**6})), "channels"),
    "onnx: an axis that is not there": (saved(lambda: aglu(**{"lambda": [0.5] * 4}, axis=1 << 40)), "axis"),
    "onnx: weights of elsewhere": (saved(lambda: outside(location="../../etc/passwd")), "out of the folder"),
    "onnx: weights at no number": (saved(lambda: outside(location="w", offset="1e3")), "weights"),
    "onnx: weights of a long name": (saved(lambda: outside(location="w" * 5000)), "weights"),
    "onnx: weights of a name with NUL": (saved(lambda: outside(location="a\0b")), "weights"),
    "onnx: an opset of the future": (
        saved(lambda: helper.make_model(good().graph, opset_imports=[helper.make_opsetid("", 2**40)])), "opset"),
    "onnx: a size beyond everything": (saved(lambda: weight(dims=[1 << 62, 1 << 62], raw_data=bytes(16))), "data"),
}  # fmt: skip
ARRAYS = {
    "npz: a bomb": (bomb, ""),
    "npz: text": (written("no archive"), "npz"),
    "npz: objects": (arrays(x=np.array([{}, []], dtype=object)), ""),
    "npz: words": (arrays(x=np.array(["a", "b"])), "finite numbers"),
    "npz: NaN": (arrays(x=np.full((2, 4), np.nan, np.float32)), "finite"),
    "npz: another name": (arrays(y=np.zeros((2, 4), np.float32)), "'x'"),
    "npz: another rank": (arrays(x=np.zeros((2, 4, 4), np.float32)), "shape"),
    "npz: a pipe": (os.mkfifo, "pipe or a device"),
    "npz: an endless device": (linked("/dev/zero"), "pipe or a device"),
    "npz: a folder": (Path.mkdir, "folder"),
}
PASSPORTS = {
    "passport: brackets": (written("[" * 200_000), ""),
    "passport: nested": (written('{"a":' * 50_000 + "1" + "}" * 50_000), ""),
    "passport: a number": (written(json.dumps(PASSPORT | {"outputs": 5})), ""),
    "passport: a long number": (written(json.dumps(PASSPORT)[:-1] + ', "options": ' + "9" * 9000 + "}"), ""),
    "passport: a pipe": (os.mkfifo, "pipe or a device"),
    "passport: an endless device": (linked("/dev/zero"), "pipe or a device"),
    "passport: a folder": (Path.mkdir, "folder"),
}
LABELS = {
    "labels: bytes": (lambda path: path.write_bytes(bytes(range(256))), ""),
    "labels: too few": (written("one\n"), "4"),
    "labels: a pipe": (os.mkfifo, "pipe or a device"),
    "labels: an endless device": (linked("/dev/zero"), "pipe or a device"),
    "labels: a folder": (Path.mkdir, "folder"),
}
KINDS = {".onnx": ONNX, ".npz": ARRAYS, ".json": PASSPORTS, ".txt": LABELS}
ROWS = {name: (suffix, *row) for suffix, rows in KINDS.items() for name, row in rows.items()}
