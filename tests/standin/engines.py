"""Engines as the stand-in for TensorRT takes them, and passports beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from onnx import TensorProto, helper

from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters


def standing_in(kind: str = "decomposed", nonzero: bool = False, **facts: object) -> bytes:
    """y = AGLU(x), lambda 0.5, kappa 1.2, for 1 to 32 rows of 4. `nonzero`: and z = NonZero(x), of unknown size."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 4)) for name in "xy"]
    nodes = [make_node("AGLU", "x", "y", Parameters((0.5,), (1.2,)), "act")]
    if nonzero:
        nodes.append(helper.make_node("NonZero", ["x"], ["z"]))
        values.append(helper.make_tensor_value_info("z", TensorProto.INT64, (2, "M")))
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = with_functions(helper.make_model(graph, opset_imports=domains, ir_version=8))
    known = {"kind": kind, "embedded": False, "stripped": False, "detailed": True}
    known["shapes"] = {"x": [[1, 4], [8, 4], [32, 4]]}
    return b"STANDIN" + json.dumps(known | facts).encode() + b"\n" + model.SerializeToString()


def passport_for(engine: Path, sha256: str | None = None, **fields: object) -> None:
    """The least that `Session` asks of a passport."""
    found = sha256 or hashlib.sha256(engine.read_bytes()).hexdigest()
    record = {"name": engine.name, "sha256": found, "bytes": engine.stat().st_size}
    beside = engine.with_name(engine.name + ".passport.json")
    beside.write_text(json.dumps({"format": "trt", "options": {}, "outputs": [record]} | fields))
