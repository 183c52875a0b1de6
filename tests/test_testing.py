"""`assert_parity` in users' tests: as a function, as a fixture, and what it leaves behind."""

import json

import numpy as np
import pytest
import torch

from apa_deploy.errors import InputError
from apa_deploy.testing import ParityAssertionError, assert_parity
from tests.networks import tiny_net

pytest_plugins = ["pytester"]
SHAPE = (3, 16, 16)


def test_modules_of_this_process():
    network = tiny_net()
    verification = assert_parity(network, tiny_net(), input_shape=SHAPE)
    assert verification.candidates[0].outputs[0].check.max_rel < 1e-5
    assert next(network.parameters()).dtype == torch.float32  # untouched


def test_a_wrong_module_fails_with_the_table():
    with pytest.raises(ParityAssertionError) as caught:
        assert_parity(tiny_net(), tiny_net(seed=1), input_shape=SHAPE)
    assert "max_rel" in str(caught.value) and "FAILED: TinyNet is not right" in str(caught.value)
    assert "--" not in str(caught.value)
    assert not caught.value.verification.passed


def test_own_inputs():
    images = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
    verification = assert_parity(tiny_net(), tiny_net(), inputs={"input": images, "labels": np.zeros(4, int)})
    assert verification.inputs.samples == 4
    assert {a.group for a in verification.accuracy} == {"all"}


def test_limits_are_passed_on():
    with pytest.raises(ParityAssertionError):
        assert_parity(tiny_net(), tiny_net(), input_shape=SHAPE, max_rel=0.0)


def test_unusable_input_is_no_assertion():
    with pytest.raises(InputError):
        assert_parity(tiny_net(), tiny_net())


_USER_TEST = """
import pytest
from tests.networks import tiny_net

@pytest.mark.parametrize("seed", [0, 1])
def test_deployed(assert_parity, seed):
    assert_parity(tiny_net(), tiny_net(seed=seed), input_shape=(3, 16, 16))
"""


def test_the_fixture_comes_with_the_package(pytester, request):
    """No import, no conftest: the plugin is found by its entry point; figures go to JUnit and to a file."""
    pytester.makepyfile(_USER_TEST)
    pytester.syspathinsert(str(request.config.rootpath))
    result = pytester.runpytest_inprocess("--junitxml=junit.xml", "--basetemp=kept", "-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=1)
    assert 'name="max_rel TinyNet: torch float32 logits"' in (pytester.path / "junit.xml").read_text()
    kept = sorted((pytester.path / "kept").rglob("parity.json"))
    assert [json.loads(path.read_text())["passed"] for path in kept] == [True, False]
