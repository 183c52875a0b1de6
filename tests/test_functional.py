"""apa_deploy.functional: the operators of torch.library; modules under torch.compile and torch.export."""

import numpy as np
import pytest
import torch

from apa_deploy.functional import OPERATORS, apa_slope
from apa_deploy.maths import REFERENCE
from apa_deploy.modules import MODULES

# float64: the formulas differ from the reference by a few roundings of values at most |z| = 90.
CLOSE = 1e-13
CASES = [
    ("ordinary", [0.5], [1.1]), ("floor", [1e-8], [0.9]), ("limit", [0.0], [-0.7]), ("sigmoid", [1.0], [1.0]),
    ("by channel", [0.3, 1e-8, 0.0], [1.0, -0.4, 2.0]),
]  # fmt: skip
Z = torch.linspace(-90, 90, 721, dtype=torch.float64)[:, None].expand(-1, 3).contiguous()


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize(("lambda_", "kappa"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_values(kind, lambda_, kappa):
    y = OPERATORS[kind](Z, lambda_, kappa, 1)
    wanted = REFERENCE[kind](Z.numpy(), lambda_, kappa)
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-12, atol=CLOSE)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize(("lambda_", "kappa"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_derivative(kind, lambda_, kappa):
    """Central differences of a curve whose third derivative is at most 10: h^2 * 10 / 6 = 2e-9 at h = 3e-5."""
    x = torch.linspace(-4, 4, 27, dtype=torch.float64).reshape(9, 3).requires_grad_()
    OPERATORS[kind](x, lambda_, kappa, 1).sum().backward()
    h = 3e-5
    ends = [OPERATORS[kind](x.detach() + s * h, lambda_, kappa, 1) for s in (1, -1)]
    torch.testing.assert_close(x.grad, (ends[0] - ends[1]) / (2 * h), rtol=1e-7, atol=1e-8)


def test_derivatives_do_not_overflow():
    for lambda_ in (0.0, 1e-8, 0.5, 9.0):
        assert torch.isfinite(apa_slope(Z.float(), [lambda_], [1.3])).all()


@pytest.mark.parametrize("kind", OPERATORS)
def test_torch_agrees_with_its_own_rules(kind):
    """Schema, fake tensors, autograd registration, dynamic shapes: torch's own checks of an operator."""
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(OPERATORS[kind]._opoverload, (x, [0.5], [1.1], 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_rounded_once(dtype):
    x = Z.to(dtype)
    y = OPERATORS["AGLU"](x, [1e-6], [1.0], 1)
    exact = torch.from_numpy(REFERENCE["AGLU"](x.double().numpy(), 1e-6, 1.0))
    # one rounding, and float32's errors, which may turn a tie
    torch.testing.assert_close(y.double(), exact, rtol=1.01 * torch.finfo(dtype).eps / 2, atol=1e-6)


@pytest.mark.parametrize("kind", MODULES)
def test_one_node_under_export_and_compile(kind):
    module, x = MODULES[kind](0.5, 1.1), torch.randn(2, 3)
    wanted = f"apa.{kind.lower()}.default"
    program = torch.export.export(module, (x,))
    assert [str(n.target) for n in program.graph.nodes if n.op == "call_function"] == [wanted]
    torch.testing.assert_close(program.module()(x), module(x))
    seen = []

    def backend(graph, _inputs):
        seen.extend(str(n.target) for n in graph.graph.nodes if n.op == "call_function")
        return graph

    compiled = torch.compile(module, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))
    assert len(seen) == 1
    assert kind.lower() in seen[0]


def test_an_act_layer_may_be_told_to_work_in_place():
    x = torch.randn(5)
    before = x.clone()
    MODULES["AGLU"](0.5, inplace=True)(x)
    assert torch.equal(x, before)
