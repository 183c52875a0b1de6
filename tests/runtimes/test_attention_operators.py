"""Gated, GatedAGLU and ChannelPool against NumPy in float64, in every layout, with padded channels."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import apa_deploy

pytestmark = pytest.mark.usefixtures("library")

CHANNELS = 20  # no multiple of a block: its last lanes are padding


def _map(rng, shape, block):
    """A random map, and the same in memory: in blocks, the last padded with numbers that must not count."""
    x = rng.standard_normal(shape).astype(np.float32)
    n, c, h, w = shape
    padded = np.full((n, c + -c % block, h, w), 1e3, np.float32)
    padded[:, :c] = x
    return x, padded.reshape(n, -1, block, h, w).transpose(0, 1, 3, 4, 2).reshape(padded.shape)


def _plain(memory, channels, block):
    n, c, h, w = memory.shape
    return memory.reshape(n, c // block, h, w, block).transpose(0, 1, 4, 2, 3).reshape(n, c, h, w)[:, :channels]


def _run(kind, feeds, **attributes):
    """One of our operators on arrays; None leaves an input out."""
    names = ["" if array is None else f"i{i}" for i, array in enumerate(feeds)]
    node = helper.make_node(kind, names, ["y"], domain="com.apa", **attributes)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*filter(None, names), "y")]
    graph = helper.make_graph([node], "g", values[:-1], values[-1:])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(apa_deploy.ort_library()))
    model = helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: array for name, array in zip(names, feeds, strict=True) if name})[0]


@pytest.mark.parametrize("block", [1, 8, 16])
@pytest.mark.parametrize("inputs", ["c", "p", "cp", "r", "cpr", ""])
@pytest.mark.parametrize("batch", [1, 2])
def test_gated_operator(block, inputs, batch):
    rng = np.random.default_rng(block)
    shape = (2, CHANNELS, 21, 25)
    (x, x_memory), (r, r_memory) = _map(rng, shape, block), _map(rng, shape, block)
    c, p = rng.random((batch, CHANNELS, 1, 1), np.float32), rng.random((batch, 1, 21, 25), np.float32)
    lambdas, kappas = (rng.uniform(0.1, 1, CHANNELS).astype(np.float32) for _ in range(2))
    given = {"c": c, "p": p, "r": r_memory}
    feeds = [x_memory, *(given[name] if name in inputs else None for name in "cpr")]
    z = x * np.float64(c if "c" in inputs else 1) * (p if "p" in inputs else 1) + (r if "r" in inputs else 0)
    # Three roundings of values below 8, each half a unit in the last place; then the unit's own 2e-7 of |y|.
    bound = 3 * 8 * 2.0**-24
    got = _plain(_run("Gated", feeds, block=block, channels=CHANNELS), CHANNELS, block)
    assert np.abs(got - z).max() <= bound
    padded = [*lambdas, *[1.0] * (-CHANNELS % block)], [*kappas, *[1.0] * (-CHANNELS % block)]
    unit = {"lambda": padded[0], "kappa": padded[1], "axis": 1}
    got = _plain(_run("GatedAGLU", feeds, block=block, channels=CHANNELS, **unit), CHANNELS, block)
    lam, kap = (v.astype(np.float64)[:, None, None] for v in (lambdas, kappas))
    wanted = z * (1 + lam * np.exp(-kap * z)) ** (-1 / lam)
    assert np.abs(got - wanted).max() <= 2 * bound + 8 * 2e-7  # the unit's slope is below 2


@pytest.mark.parametrize("block", [1, 8, 16])
@pytest.mark.parametrize("gated", [False, True])
def test_channel_pool(block, gated):
    rng = np.random.default_rng(block)
    x, memory = _map(rng, (2, CHANNELS, 37, 31), block)
    gate = rng.random((2, CHANNELS, 1, 1), np.float32) if gated else None
    got = _run("ChannelPool", [memory, gate], block=block, channels=CHANNELS)
    scaled = x * np.float64(gate if gated else 1)
    wanted = np.stack([scaled.max(1), scaled.mean(1)], 1)
    assert got.shape == wanted.shape
    # A sum of 20 numbers below 8 in float32, each addition wrong by half a unit in the last place of the sum.
    assert np.abs(got - wanted).max() <= CHANNELS * 8 * 2.0**-24


REFUSED = [
    ("gate of another width", [(2, 20, 5, 5), (2, 16, 1, 1), None, None], {}, "the channel gate is"),
    ("plane of another size", [(2, 20, 5, 5), None, (2, 1, 5, 4), None], {}, "the plane gate is"),
    ("residual of another size", [(2, 20, 5, 5), None, None, (2, 20, 1, 1)], {}, "the residual is"),
    ("fewer channels", [(2, 16, 5, 5), None, None, None], {}, "wanted 20 channels"),
    ("part of a block", [(2, 20, 5, 5), None, None, None], {"block": 8}, "in blocks of 8"),
    ("no map", [(2, 20), None, None, None], {}, "wanted \\(N, C, H, W\\)"),
    ("block of 4", [(2, 20, 5, 5), None, None, None], {"block": 4}, "block is 4"),
    ("no channels", [(2, 20, 5, 5), None, None, None], {"channels": 0}, "channels is 0"),
]


@pytest.mark.parametrize(("feeds", "attributes", "says"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refusals_name_what_is_wrong(feeds, attributes, says):
    arrays = [None if shape is None else np.zeros(shape, np.float32) for shape in feeds]
    with pytest.raises(Exception, match=says):
        _run("Gated", arrays, **{"block": 1, "channels": 20, **attributes})
