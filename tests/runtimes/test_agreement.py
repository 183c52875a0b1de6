"""apa_deploy.runtimes.agreement: how far 8-bit codes that round the other way may carry."""

import numpy as np
import pytest

from apa_deploy.runtimes.agreement import _is_close_in_codes


@pytest.mark.parametrize(
    ("own", "noise", "close"),
    [(0, 0.1, True), (0, 0.2, False), (0.25, 0.27, True), (0.25, 0.45, False), (2, 0.45, True), (2, 0.6, False)],
)
def test_noise_is_held_against_that_of_onnx_runtime_s_own_optimiser(own, noise, close):
    random = np.random.default_rng(0)
    right, ours, theirs = (random.standard_normal((2, 4000)) for _ in range(3))
    assert _is_close_in_codes(right + noise * ours, right, right + own * theirs) is close
