"""Right candidates pass, planted faults do not, and what cannot be compared is refused with a reason."""

import importlib.util

import numpy as np
import pytest
from onnx import TensorProto, helper

from apa_deploy.errors import InputError, MissingError
from apa_deploy.runtimes.cuda_driver import device_count
from apa_deploy.verification.activations import every_number
from apa_deploy.verification.available import available_runners
from apa_deploy.verification.limits import Given, verdict
from apa_deploy.verification.runners import RUNNERS
from tests.verification.conftest import EXPORTS, FACTORY, edited, set_initializer, verify


@pytest.fixture(scope="module")
def everything(exports):
    return verify(exports / "model.pth", *(exports / name for name in EXPORTS), per_layer=True)


def test_every_export_passes(everything):
    verification = everything.verification
    assert verification.passed and verification.exit_code == 0
    assert [c.precision for c in verification.candidates] == ["fp32", "fp32", "fp16", "bf16"]
    assert all(c.source_sha256 == verification.reference.file.sha256 for c in verification.candidates)
    assert not any(c.notices for c in verification.candidates)


def test_each_runner_is_judged(everything):
    runners = [[v.check.runner for v in c.outputs] for c in everything.verification.candidates]
    assert runners == [
        ["plain.onnx: ONNX Runtime"],
        ["fused.onnx: ONNX Runtime", "fused.onnx: ONNX Runtime, function bodies"],
        ["half.onnx: ONNX Runtime", "half.onnx: every value rounded to fp16"],
        ["brain.onnx: every value rounded to bf16"],
    ]


def test_limits_are_derived_and_say_how(everything):
    plain, _, half, _ = everything.verification.candidates
    rel, cosine, *gains, agreement = plain.outputs[0].limits
    assert [limit.name for limit in gains] == [one.what for one in plain.outputs[0].check.gains]
    assert (cosine.name, cosine.value) == ("min_cosine", 0.999)
    assert rel.value == max(4 * plain.outputs[0].check.torch_float32_max_rel, 32 * 2.0**-24)
    assert "float32 error" in rel.derivation and "32 x 2^-24" in rel.derivation
    assert agreement.name == "min_agreement" and "of 6 samples" in agreement.derivation
    assert half.outputs[0].limits[0].value == max(4 * half.outputs[0].check.stored_max_rel, 4 * 2.0**-11)


@pytest.mark.parametrize(("precision", "count"), [("fp16", 63488), ("bf16", 65280), ("fp32", 65280)])
def test_the_kernel_gate_sees_every_finite_half(precision, count):
    numbers = every_number(precision)
    # an exponent of ones is inf or NaN: 2 * 2^10 halves, 2 * 2^7 bfloat16s, one float32 in 256
    assert len(numbers) == len(set(numbers.view(np.uint32).tolist())) == count


def test_operator_and_kernel_gates_cover_every_activation(everything):
    for candidate in everything.verification.candidates:
        for checks in (candidate.activations, candidate.kernels):
            assert [check.path for check in checks] == ["act1", "se.gate", "act2"]
            assert all(0 < check.max_error <= check.limit for check in checks)


def test_prediction_stands_beside_measurement(everything):
    for candidate in everything.verification.candidates:
        assert len(candidate.layers) == 3 + 3 + 1  # activations, layers before each, layers after the last
        assert all(layer.passed for layer in candidate.layers)
        if candidate.precision != "fp32":  # roundings of a half type are the same wherever they are done
            ours = [e for e in candidate.layers if e.kind in ("AGLU", "APA")]
            assert all(e.measured == pytest.approx(e.predicted, rel=0.1) for e in ours)


def nan_bias(model):
    set_initializer(model, "fc.bias", lambda a: a * np.nan)


def no_bias(model):
    set_initializer(model, "fc.bias", np.zeros_like)


def wrong_lambda(model):
    set_initializer(model, "act1/log_lambda", lambda a: a + 0.01)


FAULTS = [
    # what, change, output gate red, activations named
    ("NaN", nan_bias, True, []),
    ("a bias lost", no_bias, True, []),
    ("lambda 1 % off", wrong_lambda, True, ["act1"]),
]


@pytest.mark.parametrize(("change", "outputs", "named"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_planted_fault_is_found_and_the_others_go_on(change, outputs, named, mine):
    edited(mine / "plain.onnx", change)
    verification = verify(mine / "model.pth", mine / "plain.onnx", mine / "half.onnx").verification
    wrong, right = verification.candidates
    assert bool(wrong.failed_outputs) == outputs
    assert [check.path for check in wrong.activations if not check.passed] == named
    assert not wrong.passed and right.passed
    assert verification.exit_code == 1
    assert "it is not the file that its passport speaks of" in wrong.notices[0]


OVERRIDES = [
    ("--max-rel tighter", {"max_rel": 1e-12}, False),
    ("--max-abs tighter", {"max_abs": 1e-12}, False),
    ("--max-abs wide", {"max_abs": 1.0}, True),
    ("--min-agreement above 1", {"min_agreement": 1.1}, False),
]


@pytest.mark.parametrize(("limits", "passed"), [o[1:] for o in OVERRIDES], ids=[o[0] for o in OVERRIDES])
def test_overrides(limits, passed, exports):
    (candidate,) = verify(exports / "model.pth", exports / "plain.onnx", limits=limits).verification.candidates
    assert candidate.passed == passed
    assert any("given by --" in limit.derivation for limit in candidate.outputs[0].limits)


def test_a_wide_limit_forgives_an_output_but_no_activation(mine):
    edited(mine / "plain.onnx", wrong_lambda)
    limits = {"max_rel": 1.0, "min_agreement": 0.0}
    (candidate,) = verify(mine / "model.pth", mine / "plain.onnx", limits=limits).verification.candidates
    assert not candidate.failed_outputs and not candidate.passed


def test_agreement_forgives_ties_alone(everything):
    check = everything.verification.candidates[0].outputs[0].check
    scores = np.array([[1.0, 0.0], [1.0, 1.0 - 1e-9]])
    for same, passed in ((1.0, True), (0.5, True), (0.0, False)):
        result = verdict(check.model_copy(update={"top1_agreement": same}), [scores], "fp32", Given())
        assert {limit.name: limit.value for limit in result.limits}["min_agreement"] == 0.5
        assert result.check.passed == passed


def second_input(model):
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def other_input(model):
    model.graph.input[0].name = "image"
    for node in model.graph.node:
        node.input[:] = ["image" if name == "input" else name for name in node.input]


def uint8_input(model):
    other_input(model)
    model.graph.input[0].name = "input"
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["image"], to=TensorProto.FLOAT))


def fixed_size(model):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_value = 24


def more_classes(model):
    set_initializer(model, "fc.weight", lambda a: np.concatenate([a, a]))
    set_initializer(model, "fc.bias", lambda a: np.concatenate([a, a]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 10
    del model.graph.value_info[:]


def other_source(model):
    next(p for p in model.metadata_props if p.key == "apa.source_sha256").value = "0" * 64


def quantised(model):
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["input"], ["q", "s", "z"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["unused"]))


REFUSED = [
    # what, change, what the message says
    ("another number of inputs", second_input, "inputs input, mask"),
    ("another type", uint8_input, "--preprocess"),
    ("another size", fixed_size, "of shape (?, 3, 24, ?)"),
    ("another number of classes", more_classes, "output logits of shape (2, 10)"),
    ("another checkpoint", other_source, "different weights"),
    ("int8", quantised, "--max-rel"),
]


def test_int8_is_judged_within_the_limit_that_is_given(mine):
    edited(mine / "fused.onnx", quantised)
    (found,) = verify(mine / "model.pth", mine / "fused.onnx", limits={"max_rel": 0.1}).verification.candidates
    assert found.passed and len(found.kernels) == 3


@pytest.mark.parametrize(("change", "said"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_cannot_be_compared_is_refused(change, said, mine):
    edited(mine / "plain.onnx", change)
    verification = verify(mine / "model.pth", mine / "plain.onnx", mine / "fused.onnx").verification
    refused, other = verification.candidates
    failure = refused.failure
    assert said in f"{failure.saw}; wanted {failure.wanted}. {failure.do}"
    assert other.passed
    assert verification.exit_code == 2


def test_a_single_input_may_have_another_name(mine):
    edited(mine / "plain.onnx", other_input)
    (candidate,) = verify(mine / "model.pth", mine / "plain.onnx").verification.candidates
    assert candidate.passed
    assert "input image takes the reference's input" in candidate.notices


def test_a_fixed_batch_is_kept(mine):
    def fix(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3

    edited(mine / "plain.onnx", fix)
    verification = verify(mine / "model.pth", mine / "plain.onnx").verification
    assert verification.passed and verification.inputs.samples == 9


def test_other_weights_are_compared_if_wanted(mine):
    edited(mine / "plain.onnx", other_source)
    assert verify(mine / "model.pth", mine / "plain.onnx", other_weights=True).verification.passed


def test_no_onnx_at_all(mine):
    (mine / "plain.onnx").write_bytes(b"no graph")
    (candidate,) = verify(mine / "model.pth", mine / "plain.onnx").verification.candidates
    assert candidate.failure.exit_code == 2


def test_modules_against_each_other(exports):
    verification = verify(FACTORY, FACTORY, exports / "model.pth", per_layer=True).verification
    assert verification.passed
    assert [c.kind for c in verification.candidates] == ["module", "checkpoint"]
    assert len(verification.candidates[0].layers) == 7


@pytest.mark.parametrize("reference", ["none.pth", "no.such:module", "model.engine"])
def test_an_unusable_reference(reference, exports, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.engine").write_bytes(b"engine")
    with pytest.raises(InputError):
        verify(reference, exports / "plain.onnx")


def test_openvino_on_the_same_files(exports):
    pytest.importorskip("openvino")
    files = [exports / "plain.onnx", exports / "fused.onnx"]
    verification = verify(exports / "model.pth", *files, runners=("onnxruntime", "openvino")).verification
    assert verification.passed
    runners = {v.check.runner for c in verification.candidates for v in c.outputs}
    assert {"plain.onnx: OpenVINO", "fused.onnx: OpenVINO"} < runners


def test_a_runner_that_is_not_here_exits_3(exports):
    if "tensorrt" in available_runners():
        pytest.skip("this machine has it")
    verification = verify(exports / "model.pth", exports / "plain.onnx", runners=("tensorrt",)).verification
    assert verification.exit_code == 3
    assert "pip install" in verification.candidates[0].failure.do


@pytest.mark.parametrize("runner", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_gpus_provider_that_is_not_here_is_said_before_long_work(tmp_path, runner):
    """The reference, which is no model at all, is not even looked at."""
    if device_count():
        pytest.skip("this machine has a GPU")
    for name in ("reference.onnx", "candidate.onnx"):
        (tmp_path / name).write_bytes(b"\x08\x08")
    with pytest.raises(MissingError) as caught:
        verify(tmp_path / "reference.onnx", tmp_path / "candidate.onnx", runners=(runner,))
    assert "ExecutionProvider" in caught.value.saw and caught.value.exit_code == 3


def test_all_runners_are_those_that_are_here():
    found = available_runners()
    assert found[0] == "onnxruntime" and set(found) <= set(RUNNERS)
    assert ("openvino" in found) == (importlib.util.find_spec("openvino") is not None)
    assert any(runner.startswith("tensorrt") for runner in found) <= bool(device_count())


def test_a_file_of_nobody_is_judged_by_its_outputs(mine):
    def strip(model):
        del model.metadata_props[:]

    edited(mine / "plain.onnx", strip)
    (candidate,) = verify(mine / "model.pth", mine / "plain.onnx").verification.candidates
    assert candidate.passed and not candidate.activations
    assert any("judged by outputs alone" in text for text in candidate.notices)
