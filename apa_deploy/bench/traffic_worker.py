"""The child of `traffic`: python -m apa_deploy.bench.traffic_worker MODEL '{"input": [[1, 3, 32, 32], "float32"]}'

Its last line on standard output: {"rows": [{"path", "kind", "bytes", "ms", "copy_fraction"}], "copy_bytes_per_s"}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..graph.isolate import isolate_sites
from ..graph.node import DOMAIN
from ..graph.read import read_graph
from ..graph.sites import ActivationSite, find_sites
from ..measure.turns import take_turns, time_ms
from ..runtimes.onnxruntime import register_operators, set_subnormals_to_zero
from ..runtimes.ort_session import open_session, session_options
from ..tensors.signature import TensorSpec
from .opened import arrays

_WARMUP, _TURNS = 3, 15
Shape = tuple[int, ...]


def main() -> None:
    """Measure, and print one JSON document."""
    path, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    feeds = tuple(TensorSpec(name, dtype, tuple(shape)) for name, (shape, dtype) in given.items())
    print(json.dumps(measure_sites(path, feeds)))


def measure_sites(path: Path, feeds: tuple[TensorSpec, ...]) -> dict[str, Any]:
    """Every activation of the file; "copy_bytes_per_s" is the speed of the largest copy."""
    model = read_graph(path, weights=True)
    sites = find_sites(model)
    if not sites:
        return {"rows": [], "copy_bytes_per_s": None}
    shapes = _shapes(model, sites, arrays(feeds, feeds[0].fixed_batch or 0))
    rows, speeds = [], []
    for site, shape in zip(sites, shapes, strict=True):
        moved, own, copy = _time_site(model, site, shape)
        row = {"path": site.name, "kind": site.kind, "bytes": moved, "ms": own * 1e3, "copy_fraction": copy / own}
        rows.append(row)
        speeds.append((moved, moved / copy))
    return {"rows": rows, "copy_bytes_per_s": max(speeds)[1]}


def _shapes(model: onnx.ModelProto, sites: list[ActivationSite], inputs: dict[str, np.ndarray]) -> list[Shape]:
    """What enters each activation when the whole network runs: one Shape node each, and one run."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    names = [f"shape_of/{site.name}" for site in sites]
    for site, name in zip(sites, names, strict=True):
        asked.graph.node.append(helper.make_node("Shape", [site.source], [name]))
        asked.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None))
    return [tuple(int(n) for n in shape) for shape in _session(asked, None).run(names, inputs)]


def _time_site(model: onnx.ModelProto, site: ActivationSite, shape: Shape) -> tuple[int, float, float]:
    """Bytes moved, and the median seconds of the activation and of a copy, on one thread, taking turns."""
    small, (source,), (target,) = isolate_sites(model, [(site.source, site.target)])
    dtype = helper.tensor_dtype_to_np_dtype(small.graph.input[0].type.tensor_type.elem_type)
    z = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype)
    y = np.zeros_like(z)
    run = _bind_run(_session(small, 1), {source: z}, {target: np.zeros_like(z)})
    own, copy = _alternating(own=run, copy=lambda: np.copyto(y, z))
    return 2 * z.nbytes, own, copy


def _alternating(**actions: Callable[[], object]) -> list[float]:
    """The median seconds of each."""
    timers = {name: partial(time_ms, action) for name, action in actions.items()}
    return [median(samples) / 1e3 for samples in take_turns(timers, _TURNS, warm_up=_WARMUP).values()]


def _bind_run(session: Any, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Callable[[], object]:
    """A run that reads and writes arrays made before: no allocation, no copy beside it."""
    from onnxruntime import OrtValue

    binding = session.io_binding()
    kept = [OrtValue.ortvalue_from_numpy(array) for array in (*inputs.values(), *outputs.values())]
    for name, value in zip(inputs, kept, strict=False):
        binding.bind_ortvalue_input(name, value)
    for name, value in zip(outputs, kept[len(inputs) :], strict=True):
        binding.bind_ortvalue_output(name, value)
    return lambda: (kept, session.run_with_iobinding(binding))


def _session(model: onnx.ModelProto, threads: int | None) -> Any:
    options = session_options(threads)
    set_subnormals_to_zero(options)
    if any(node.domain == DOMAIN for node in model.graph.node):
        register_operators(options)
    return open_session(model, options=options)


if __name__ == "__main__":
    main()
