"""Where codes stand, for either target: one row a pattern."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest

from apa_deploy.errors import InputError
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.quantise import CPU, TENSORRT, make_plan, prepare_for_plan, quantise_graph, scales_of
from apa_deploy.graph.quantise.codes import S8, U8, scale_of, weight_codes, weight_scales
from tests import quantise_networks as networks

PLACES = [
    # network, target, values in codes, layers, activations, what stays float
    (networks.plain, CPU, 6, ["stem", "second"], 2, {"the head"}),  # x z a z a mean
    (networks.plain, TENSORRT, 2, ["stem", "second"], 1, {"the head", "no layer in 8 bits reads it"}),
    (networks.residual, CPU, 9, ["stem", "a", "b"], 3, {"the head"}),  # x z a | z a z | sum a mean
    (networks.residual, TENSORRT, 3, ["stem", "a", "b"], 2, {"the head", "no layer in 8 bits reads it"}),
    # as before, and the gated map, the pooled one; not the gate
    (networks.squeeze, CPU, 11, ["stem", "a", "b"], 3, {"the head", "leads to a gate only", "a gate"}),
    (networks.spatial, CPU, 7, ["stem", "b"], 2, {"the head", "leads to a gate only", "a gate"}),
    (networks.pooled, CPU, 7, ["stem", "b"], 2, {"the head"}),
    (networks.pooled, TENSORRT, 3, ["stem", "b"], 1, {"the head", "no layer in 8 bits reads it"}),
    (networks.shortcut, CPU, 11, ["stem", "a", "b"], 3, {"the head"}),
    (networks.concat, CPU, 12, ["stem", "a", "b", "c"], 4, {"the head"}),
    (networks.silu, CPU, 6, ["stem", "b"], 2, {"the head"}),
    (networks.relu, CPU, 5, ["stem", "b"], 1, {"the head"}),
    (networks.channels, CPU, 6, ["stem", "b"], 1, {"the head", "parameters a channel"}),
]  # fmt: skip
ONE_SCALE = [
    # network, operators whose output has the scale of the input
    (networks.pooled, {"MaxPool"}),
    (networks.shortcut, {"Slice", "Pad"}),
    (networks.concat, {"Concat", "Resize"}),
]


def _names(row):
    return f"{row[0].__name__}-{row[1].target}"


@pytest.mark.parametrize(
    ("network", "placement", "codes", "layers", "units", "kept"), PLACES, ids=[_names(p) for p in PLACES]
)
def test_what_is_in_codes(network, placement, codes, layers, units, kept):
    plan = make_plan(networks.build(network), placement)
    assert len(plan.groups) == codes, sorted(plan.groups)
    assert [layer.name for layer in plan.layers] == layers
    assert len(plan.units) == units
    assert set(plan.kept.values()) == kept


@pytest.mark.parametrize(("network", "operators"), ONE_SCALE, ids=[r[0].__name__ for r in ONE_SCALE])
@pytest.mark.parametrize("placement", [CPU, TENSORRT], ids=["cpu", "tensorrt"])
def test_what_only_moves_values_keeps_their_scale(network, operators, placement):
    model = networks.build(network)
    plan = make_plan(model, placement)
    ranges = {name: (-float(i + 1), float(i + 2)) for i, name in enumerate(plan.groups)}
    scales = scales_of(plan, ranges)
    moving = [node for node in model.graph.node if node.op_type in operators]
    assert len(moving) == len(operators)
    for node in moving:
        assert len({scales[name] for name in (*node.input, *node.output) if name in scales}) == 1


def _coded(network, placement, reduced=False):
    model = networks.build(network)
    plan = make_plan(model, placement)
    scales = scales_of(plan, dict.fromkeys(plan.groups, (-1.0, 3.0)))
    return plan, quantise_graph(model, plan, scales, reduced=reduced)


def test_no_name_is_given_twice_with_the_decompositions_constants():
    _, model = _coded(networks.squeeze, CPU)
    decompose(model)
    names = [tensor.name for tensor in model.graph.initializer]
    names += [name for node in model.graph.node for name in node.output]
    assert not [name for name, count in collections.Counter(names).items() if count > 1]


def test_whoever_reads_a_value_reads_its_codes_and_outputs_keep_their_names():
    plan, model = _coded(networks.residual, CPU)
    quantisers = {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "Conv", "DequantizeLinear"):
            assert not set(node.input) & quantisers, node
    assert model.graph.output[0].name == networks.build(networks.residual).graph.output[0].name
    onnx.checker.check_model(model)
    assert len(quantisers) == len(plan.groups)


@pytest.mark.parametrize(
    ("pattern", "layers", "kept"),
    [("b", ["stem", "a"], "b"), ("a*", ["stem", "b"], "a"), ("act3", ["stem", "a", "b"], "act3")],
)
def test_keep_float(pattern, layers, kept):
    model = networks.build(networks.residual)
    if pattern == "act3":
        pattern = next(n.name for n in model.graph.node if n.op_type == "AGLU")
        kept = pattern
    plan = make_plan(model, CPU, [pattern])
    assert [layer.name for layer in plan.layers] == layers or pattern == "a*"
    assert plan.kept[kept] == "--keep-float"


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(InputError, match=r"--keep-float layer9.*wanted a pattern that matches one of: stem"):
        make_plan(networks.build(networks.plain), CPU, ["layer9"])


def test_batch_norms_are_folded_first():
    builder = networks.Builder()
    x = builder.conv("x", 3, name="stem")
    values = [builder.constant(v) for v in (np.linspace(0.5, 2, 8, dtype="f"), *np.ones((3, 8), "f"))]
    x = builder.unit(builder.add("BatchNormalization", x, *values, epsilon=1e-3))
    model = builder.model(builder.head(builder.unit(builder.conv(x, name="b"))))
    from apa_deploy.calibration.ranges import open_calibration_session

    sample = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)
    from apa_deploy.graph.functions import with_functions

    before = open_calibration_session(with_functions(model), []).run(None, {"x": sample})[0]
    prepare_for_plan(model)
    assert "BatchNormalization" not in {n.op_type for n in model.graph.node}
    after = open_calibration_session(model, []).run(None, {"x": sample})[0]
    assert np.allclose(before, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("codes", [U8, S8], ids=["u8", "s8"])
@pytest.mark.parametrize("span", [(-1.0, 3.0), (0.0, 6.0), (-5.0, -1.0), (0.5, 0.7), (0.0, 0.0), (-1e-38, 1e-38)])
def test_a_scale_holds_its_range_and_zero_exactly(span, codes):
    scale = scale_of(*span, codes)
    assert scale.real_of(scale.code_of(np.zeros(1)))[0] == 0
    ends = np.array(span)
    assert (np.abs(scale.real_of(scale.code_of(ends)) - ends) <= 0.51 * scale.scale).all()


def test_weights_of_seven_bits_cannot_saturate_two_products():
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    for reduced, most in ((False, 127), (True, 63)):
        scales = weight_scales(weight, 0, S8, reduced=reduced)
        codes = weight_codes(weight, scales, 0, S8)
        assert np.abs(codes.reshape(4, -1)).max(1).tolist() == [most] * 4
    assert 2 * 255 * 63 < 2**15 <= 2 * 255 * 127
