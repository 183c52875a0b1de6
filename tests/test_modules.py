"""apa_deploy.maths and .modules: float64 formulas, torch modules, special values."""

import math

import numpy as np
import pytest
import torch

from apa_deploy.functional import limit_below
from apa_deploy.maths import REFERENCE, ParameterError, effective_parameters
from apa_deploy.modules import AGLU, APA, MODULES

FLOORS = {
    "cls_unirect": ("AGLU", lambda raw: np.maximum(raw, 0) + 1e-8),
    "cls_unified": ("APA", lambda raw: np.maximum(raw, 1e-4)),
    "mmdet_se_resnet_unirect": ("AGLU", lambda raw: np.maximum(raw, 1e-4)),
}
INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("name", FLOORS)
def test_float64_matches_60_digits(name, golden_arrays):
    data, (kind, floor) = golden_arrays["activations"], FLOORS[name]
    z, lam, kappa = (data[k].astype(np.float64) for k in ("z", "lambda_param", "kappa_param"))
    got = REFERENCE[kind](z, floor(lam)[:, None, None], kappa[None, :, None])
    wanted = data[f"{name}_exact"]
    # t is rounded to |t| * 2^-53 with |t| <= 300, and APA * dh/dt <= 1; the unit multiplies by |z| <= 100.
    assert np.abs(got - wanted).max() <= 300 * 100 * 2.0**-53


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("lam", [0.0, 1e-17, 1e-8, 1e-4, 0.3, 1.0, 7.0, 100.0])
@pytest.mark.parametrize("kappa", [1.0, -0.6, 0.0])
def test_module_is_the_reference(kind, lam, kappa):
    z = torch.linspace(-50, 50, 2001, dtype=torch.float64)
    module = MODULES[kind](lam, kappa)
    wanted = REFERENCE[kind](z.numpy(), lam, kappa)
    # the same arithmetic through another libm: a few roundings of t, |t| <= 70, times |z|
    assert np.abs(module(z).numpy() - wanted).max() <= 70 * 50 * 2.0**-52
    # float32: |t| <= 70 rounded to 2^-24, where APA * dh/dt <= 1/e unless t is small; times max(1, |y|)
    got = module(z.float()).double().numpy()
    assert (np.abs(got - wanted) / np.maximum(1, np.abs(wanted))).max() <= 1.5e-6


SPECIAL = [
    # kappa, z, gate, unit
    (1.0, NAN, NAN, NAN),
    (1.0, INF, 1.0, INF),
    (1.0, -INF, 0.0, NAN),
    (-1.0, INF, 0.0, NAN),
    (-1.0, -INF, 1.0, -INF),
    (0.0, INF, NAN, NAN),
    (1.0, 1e-310, "at 0", "at 0"),
]


@pytest.mark.parametrize(("kappa", "z", "gate", "unit"), SPECIAL)
@pytest.mark.parametrize("lam", [0.0, 1e-8, 0.5, 1.0])
def test_special_values(kappa, z, gate, unit, lam):
    at_zero = math.exp(-1) if lam < 1e-16 else (1 + lam) ** (-1 / lam)
    gate, unit = (at_zero, z * at_zero) if gate == "at 0" else (gate, unit)
    x = torch.tensor([z], dtype=torch.float64)
    for got, wanted in ((APA(lam, kappa)(x), gate), (AGLU(lam, kappa)(x), unit)):
        np.testing.assert_allclose(got.numpy(), [wanted], rtol=1e-7)
    for kind, wanted in (("APA", gate), ("AGLU", unit)):
        np.testing.assert_allclose(REFERENCE[kind](z, lam, kappa), wanted, rtol=1e-7)


def test_signed_zero_stays():
    y = AGLU(0.5, 1.0)(torch.tensor([-0.0, 0.0]))
    assert torch.signbit(y).tolist() == [True, False]


def test_limit_is_continuous():
    """The switch to the limit costs no more than 0.271 * lambda."""
    z = np.linspace(-10, 10, 1001)
    for lam in (1e-3, 1e-5, 1e-7):
        assert np.abs(REFERENCE["APA"](z, lam, 1.0) - REFERENCE["APA"](z, 0.0, 1.0)).max() <= 0.271 * lam


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_computed_in_float32(dtype):
    z = torch.linspace(-12, 12, 501).to(dtype)
    y = AGLU(1e-8, 1.0)(z)
    wanted = torch.from_numpy(REFERENCE["AGLU"](z.double().numpy(), 1e-8, 1.0))
    assert y.dtype == dtype
    # one rounding to the type: half an ulp, here relative to max(1, |y|) (eps is a whole ulp at 1)
    assert ((y.double() - wanted).abs() / wanted.abs().clamp(min=1)).max() <= 0.51 * torch.finfo(dtype).eps


def test_per_channel_broadcasts_along_its_axis():
    lam, kappa = [0.0, 0.5, 2.0], [1.0, -1.0, 0.5]
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    wanted = torch.stack([AGLU(lam[c], kappa[c])(x[:, c]) for c in range(3)], dim=1)
    torch.testing.assert_close(AGLU(lam, kappa)(x), wanted)
    torch.testing.assert_close(AGLU(lam, kappa, axis=-1)(x.movedim(1, -1)), wanted.movedim(1, -1))


BAD = [
    ("a negative effective lambda", -1e-9, 1.0, "lambda"),
    ("lambda NaN", NAN, 1.0, "lambda"),
    ("lambda infinite", INF, 1.0, "lambda"),
    ("kappa NaN", 0.5, NAN, "kappa"),
    ("one channel of three", [0.1, NAN, 0.2], 1.0, "lambda"),
    ("lengths 2 and 3", [0.1, 0.2], [1.0, 1.0, 1.0], "lambda and kappa"),
]


@pytest.mark.parametrize(("lam", "kappa", "name"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_refuses(lam, kappa, name):
    with pytest.raises(ParameterError) as caught:
        effective_parameters(lam, kappa)
    assert caught.value.name == name


def test_double_keeps_the_parameters():
    """Parameters are no buffers: a float32 network made double computes with their float64 values."""
    lam = 0.1 + 1e-12
    z = torch.tensor([1.5], dtype=torch.float64)
    assert APA(lam, 1.0).float().double()(z).item() == pytest.approx(
        float(REFERENCE["APA"](1.5, lam, 1.0)), rel=1e-15
    )
    assert limit_below(torch.float32) == 2.0**-23
