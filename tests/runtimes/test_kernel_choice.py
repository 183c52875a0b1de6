"""Which kernel runs is the user's to say: by session, by session option, by environment."""

from __future__ import annotations

import canonical_models as models
import numpy as np
import onnxruntime as ort
import ort_building as building
import pytest

import apa_deploy
from apa_deploy.errors import InputError
from apa_deploy.maths import Parameters

pytestmark = [
    pytest.mark.usefixtures("library"),
    pytest.mark.skipif(not building.table_sets(), reason="the table kernels want AVX2"),
]

LAMBDA, KAPPA = 0.5, 1.2
X = np.linspace(-12, 12, 4001, dtype=np.float32)
KERNELS = ("exact", "acc", "pw")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return models.saved(models.one_node(Parameters((LAMBDA,), (KAPPA,))), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def by_kernel(path):
    """What each kernel answers: alike to the eye, different in the last bits."""
    answers = {name: _answer(path, kernel=name) for name in KERNELS}
    assert len({a.tobytes() for a in answers.values()}) == 3, "the test can no longer tell the kernels apart"
    return answers


def _answer(path, **options):
    with apa_deploy.Session(path, **options) as session:
        return session.run({"x": X})["y"]


def _plain(path, library, entries):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    options.register_custom_ops_library(str(library))
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_is_right(by_kernel, kernel):
    # relative to max(1, |z|): 1.2e-7 of the gate, and half a last place for the product
    error = np.abs(by_kernel[kernel] - models.truth("AGLU", X, LAMBDA, KAPPA))
    assert np.all(error <= (1.2e-7 + 2**-24) * np.maximum(1, np.abs(X)))


def test_the_fastest_within_the_bound_is_the_default(path, by_kernel):
    assert np.array_equal(_answer(path), by_kernel["pw"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_environment_and_session_option(path, library, by_kernel, monkeypatch, kernel):
    option = _plain(path, library, {"com.apa.kernel": kernel})
    monkeypatch.setenv("APA_KERNEL", kernel)
    assert np.array_equal(option, by_kernel[kernel])
    assert np.array_equal(_answer(path), by_kernel[kernel])


def test_the_session_overrides_the_environment(path, by_kernel, monkeypatch):
    monkeypatch.setenv("APA_KERNEL", "exact")
    assert np.array_equal(_answer(path, kernel="acc"), by_kernel["acc"])


def test_instruction_set_may_be_bounded(path, by_kernel, monkeypatch):
    monkeypatch.setenv("APA_MAX_ISA", "none")
    assert np.array_equal(_answer(path, kernel="pw"), by_kernel["exact"])


def test_sessions_with_different_kernels_live_side_by_side(path, by_kernel):
    sessions = {name: apa_deploy.Session(path, kernel=name) for name in KERNELS}
    for name, session in sessions.items():
        assert np.array_equal(session.run({"x": X})["y"], by_kernel[name])


OTHERS = [("APA_KERNEL", "exact, acc, pw"), (None, "exact, acc, pw"), ("APA_MAX_ISA", "avx512, avx2, none")]


@pytest.mark.parametrize(("variable", "wanted"), OTHERS)
def test_another_name_is_refused(path, monkeypatch, variable, wanted):
    if variable:
        monkeypatch.setenv(variable, "fast")
    with pytest.raises(InputError, match=f"'fast'; wanted {wanted}"):
        apa_deploy.Session(path, kernel=None if variable else "fast")


@pytest.mark.parametrize(
    ("variable", "entries", "says"),
    [
        (None, {"com.apa.kernel": "fast"}, "com.apa.kernel is 'fast'; wanted exact, acc or pw"),
        ("APA_KERNEL", {}, "APA_KERNEL is 'fast'"),
        ("APA_MAX_ISA", {}, "APA_MAX_ISA is 'fast'; wanted avx512, avx2 or none"),
    ],
)
def test_the_library_itself_refuses_another_name(path, library, monkeypatch, variable, entries, says):
    if variable:
        monkeypatch.setenv(variable, "fast")
    with pytest.raises(Exception, match=says):
        _plain(path, library, entries)
