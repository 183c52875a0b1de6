"""float16 and bfloat16 in ONNX Runtime: for all 65,536 inputs within 1 ulp of the correctly rounded.

float32: a result below 2^-126 is 0 with its sign, unless the formula itself was asked for; `pw`, the default, keeps
an absolute bound, the other kernels a relative one.
"""

from __future__ import annotations

import itertools

import canonical_models as models
import numpy as np
import onnx
import ort_building as building
import pytest
from onnx import TensorProto, helper

import apa_deploy
from apa_deploy.graph.node import make_node
from apa_deploy.maths import Parameters
from benchmarks import kernel_error

LAMBDAS = (0.0, 1e-8, 1e-4, 0.01, 0.2, 0.5, 1.0, 3.0, 100.0)
KAPPAS = (1.0, -0.7, 0.0, 0.05, 12.0)
PAIRS = list(itertools.product(LAMBDAS, KAPPAS))
EVERY = np.arange(65536, dtype=np.uint16)

# name: (ONNX type, significant bits, exponent of the smallest subnormal, exponent past the largest number)
TYPES = {"float16": (TensorProto.FLOAT16, 11, -24, 16), "bfloat16": (TensorProto.BFLOAT16, 8, -133, 128)}


def _model(kind: str, dtype: int) -> onnx.ModelProto:
    """x (float32) -> Cast -> one node a pair -> Cast back. NumPy has no bfloat16; the Casts are exact."""
    nodes = [helper.make_node("Cast", ["x"], ["small"], to=dtype)]
    outputs = []
    for i, (lambda_, kappa) in enumerate(PAIRS):
        nodes.append(make_node(kind, "small", f"y{i}", Parameters((lambda_,), (kappa,)), f"act{i}"))
        nodes.append(helper.make_node("Cast", [f"y{i}"], [f"z{i}"], to=TensorProto.FLOAT))
        outputs.append(helper.make_tensor_value_info(f"z{i}", TensorProto.FLOAT, ["N"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.apa", 1)]
    graph = helper.make_graph(nodes, "g", [x], outputs)
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def _inputs(name: str) -> np.ndarray:
    if name == "float16":
        return EVERY.view(np.float16).astype(np.float32)
    return (EVERY.astype(np.uint32) << 16).view(np.float32)


def _rank(value: np.ndarray, bits: int, bottom: int, top: int) -> np.ndarray:
    """The number of the type nearest to each value, ties to even, counted from 0: neighbours differ by 1."""
    magnitude = np.minimum(np.abs(value), 2.0**top)
    quantum = np.maximum(np.frexp(magnitude)[1] - bits, bottom)
    rounded = np.rint(np.ldexp(magnitude, -quantum))
    # Below a quantum of 2^bottom the count is the value itself; each binade above adds 2^(bits-1).
    return np.sign(value) * (rounded + (quantum - bottom) * 2.0 ** (bits - 1))


@pytest.mark.parametrize("kind", ["APA", "AGLU"])
@pytest.mark.parametrize("name", TYPES)
def test_every_input_is_within_one_ulp(library, tmp_path, name, kind):
    dtype, *shape = TYPES[name]
    x = _inputs(name)
    with apa_deploy.Session(models.saved(_model(kind, dtype), tmp_path)) as session:
        outputs = session.run({"x": x})
    subnormals = 0
    for i, (lambda_, kappa) in enumerate(PAIRS):
        got, wanted = outputs[f"z{i}"].astype(np.float64), models.truth(kind, x, lambda_, kappa)
        nan = np.isnan(wanted)
        assert np.array_equal(np.isnan(got), nan), (lambda_, kappa)
        ulps = np.abs(_rank(got[~nan], *shape) - _rank(wanted[~nan], *shape))
        assert ulps.max() <= 1, (lambda_, kappa, x[~nan][ulps.argmax()])
        subnormals += np.count_nonzero((got != 0) & (np.abs(got) < 2.0 ** (shape[1] + shape[0] - 1)))
    assert subnormals > 100  # subnormal results exist, so they were not flushed


SMALLEST = 2.0**-126
PW = {"APA": 2.0**-23, "AGLU": 2.0**-22}  # relative to max(1, |result|)
# Into the tail where results pass below the smallest normal number, finely; and inputs that are subnormal.
WIDE = np.concatenate([np.linspace(-120, 120, 40001), np.linspace(-6, -3, 20001), [1e-39, -1e-39]])


@pytest.mark.parametrize("kernel", [None, "acc", "pw", "exact"])
@pytest.mark.parametrize("kind", ["APA", "AGLU"])
def test_float32_results_are_normal_or_zero(library, tmp_path, kind, kernel):
    """Every channel has parameters of its own, of each arrangement; and one node alone."""
    pairs = [(lam, kappa) for lam, kappa in PAIRS if kappa]
    lambdas, kappas = zip(*pairs, strict=True)
    x = np.repeat(WIDE.astype(np.float32)[None, None], len(pairs), axis=1)
    channels = models.one_node(Parameters(lambdas, kappas), kind, shape=x.shape)
    alone = models.one_node(Parameters((1e-4,), (1.0,)), kind, shape=x.shape)
    subnormal = 0
    for model, of in ((channels, pairs), (alone, [(1e-4, 1.0)] * len(pairs))):
        with apa_deploy.Session(models.saved(model, tmp_path), kernel=kernel) as session:
            y = session.run({"x": x})["y"]
        wanted = np.stack([models.truth(kind, x[:, c], *pair) for c, pair in enumerate(of)], axis=1)
        tiny = np.abs(wanted) < SMALLEST / 2
        assert np.array_equal(np.signbit(y[tiny]), np.signbit(wanted[tiny]))
        small = (y != 0) & (np.abs(y) < SMALLEST)
        subnormal += np.count_nonzero(small)
        assert kernel == "exact" or (y[tiny] == 0).all()
        # 384 ulp is the contract's bound there; pw's is absolute
        certain = SMALLEST * (1 + 2**-14) if kernel in ("acc", "exact") else PW[kind]
        assert (np.abs(y) >= SMALLEST)[np.abs(wanted) > certain].all()
    assert (subnormal > 100) == (kernel == "exact")


@pytest.mark.parametrize("kernel", ["exact", "acc"])
def test_float32_keeps_the_relative_contract(library, tmp_path, kernel):
    """The bounds above `apa::gate`, by the library as it is built: with fused multiply-add where there is one."""
    path = models.saved(kernel_error.model(), tmp_path)
    fused = building.instruction_sets() != ["x86-64"]
    bounds = np.select([kernel_error.LAMBDAS == 0, kernel_error.LAMBDAS < 0.25], [2, 3] if fused else [5, 5],
                       2.5 if fused else 3)  # fmt: skip
    assert (np.nanmax(kernel_error.errors(path, kernel), axis=1) <= bounds).all()


@pytest.mark.parametrize("kind", ["APA", "AGLU"])
def test_the_default_keeps_the_absolute_contract(library, tmp_path, kind):
    """The formula's own, where it answers, is 1.2e-7, and twice that of a unit."""
    pairs = [(lam, kappa) for lam in (*LAMBDAS[:-1], 2.0) for kappa in (*KAPPAS, 0.3) if abs(kappa) > 0.25]
    lambdas, kappas = zip(*pairs, strict=True)
    x = np.repeat(WIDE.astype(np.float32)[None, None], len(pairs), axis=1)
    path = models.saved(models.one_node(Parameters(lambdas, kappas), kind, shape=x.shape), tmp_path)
    with apa_deploy.Session(path) as session:
        y = session.run({"x": x})["y"]
    wanted = np.stack([models.truth(kind, x[:, c], *pair) for c, pair in enumerate(pairs)], axis=1)
    assert np.array_equal(np.signbit(y), np.signbit(wanted))
    assert (np.abs(y - wanted) <= 1.05 * PW[kind] * np.maximum(1, np.abs(wanted))).all()
    assert kind == "AGLU" or (y <= 1).all()


def test_the_callers_arithmetic_stays_as_it_is(library, tmp_path):
    path = models.saved(models.one_node(Parameters((0.0,), (1.0,)), shape=(1, WIDE.size)), tmp_path)
    with apa_deploy.Session(path, threads=1) as session:
        session.run({"x": WIDE.astype(np.float32)[None]})
    assert np.float32(1e-38) * np.float32(0.5) != 0
