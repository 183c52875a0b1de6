"""Every golden network in fp16 and bf16: right within what the type makes unavoidable, NaN nowhere."""

import numpy as np
import onnx
import pytest

import apa_deploy
from apa_deploy.graph.decompose import decompose
from apa_deploy.graph.functions import with_functions
from apa_deploy.graph.node import activations, attributes, read_parameters
from apa_deploy.graph.precision import LOWEST_OPSET, in_precision
from apa_deploy.parity.verify import verify
from tests.conftest import GOLDEN, Golden

# The larger the network, the longer the trace: one serves both types and both forms.
OPSET = max(LOWEST_OPSET.values())
FORMS = {"fp16": (decompose, with_functions), "bf16": (decompose,)}


def copied(proto):
    return onnx.ModelProto.FromString(proto.SerializeToString())


# One with gates, one without and with three heads; the others share their units, and differ in size and classifier.
EVERY_TIME = {"cifar_cb_resnet32_gumbelse_lrcosine", "cifar_tb_resnet32_tuple"}
NETWORKS = [pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.long) for name in GOLDEN]


@pytest.mark.parametrize("golden", NETWORKS, indirect=True)
def test_golden(golden, tmp_path):
    x = golden.input().numpy()
    model = apa_deploy.load(golden.save(tmp_path / "model.pth"), input_shape=x.shape[1:])
    traced = model.trace(OPSET)
    for precision, forms in FORMS.items():
        for form in forms:
            onnx.save(form(in_precision(copied(traced.proto), precision)), tmp_path / "half.onnx")
            report = verify(tmp_path / "half.onnx", model, traced.sites, [{"input": x}], precision=precision)
            assert report.passed, (precision, form.__name__, report)
            runners = {check.runner for check in report.outputs}
            assert ("ONNX Runtime" in runners) == (precision == "fp16")
            assert f"ONNX Runtime, every value rounded to {precision}" in runners


@pytest.fixture(scope="module")
def at_the_floor(tmp_path_factory):
    """A small network all of whose units stand at the floor, and its trace."""
    path = tmp_path_factory.mktemp("floor") / "model.pth"
    model = apa_deploy.load(Golden(GOLDEN["cifar_se_resnet32_gumbel_cosine"]).save(path))
    for module in model.module.modules():
        if getattr(module, "kind", "") == "AGLU":
            module.lambda_param.data.fill_(-1)  # the floor: 1e-8 in the truth
    return model, model.trace(OPSET)


@pytest.mark.parametrize("precision", FORMS)
@pytest.mark.parametrize("lam", [0.0, 1e-8])
def test_every_unit_at_the_floor(lam, precision, at_the_floor, tmp_path):
    """lambda 0 and 1e-8 in all 31 units at once: where 1/lambda overflows fp16."""
    model, traced = at_the_floor
    proto = copied(traced.proto)
    for one in activations(proto.graph):
        p = read_parameters(one)
        if one.op_type == "AGLU":
            assert p.lambda_ == pytest.approx((1e-8,))
            wanted = attributes(type(p)((lam,), p.kappa, p.axis))
            del one.attribute[:]
            one.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in wanted.items())
    onnx.save(decompose(in_precision(proto, precision)), tmp_path / "half.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    report = verify(tmp_path / "half.onnx", model, traced.sites, [{"input": x}], precision=precision)
    assert report.passed, report
