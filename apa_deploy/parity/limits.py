"""Every limit of parity, and where it comes from. `records` keep what each verdict rested on.

Model gate: the largest error of an output, relative to its largest |reference|, at most

    fp32         max(4 * error of the network in float32, 32 * 2^-24)
    fp16, bf16   max(4 * error of float64 that stores its values in the type, 4 * unit roundoff)

The network's float32 runs the same arithmetic in another order, so its error is one sample of what float32 makes
unavoidable; over the few hundred roundings on a path, another order gives another sample, and a factor of 4 covers
the spread (the golden networks show 0.5 to 1.9). Storing in a half type likewise: both sides round the same
quantities to the same type and differ in where batch norm is folded. The second terms cover outputs where the
baseline happens to be nearly exact: 32 roundings of half an ulp, the depth of the smallest network here; of a half
type one layer alone: input, weight, product and output, each rounded once.

But never more than a ceiling, past which an error hides a fault whatever made it:

    fp32  1e-3   two roundings of fp16: a float32 network that loses more is no better than its half-size twin
    fp16  2e-2   41 unit roundoffs, a random walk of 1,700 roundings: 11 for each layer of the deepest ResNet, 152
    bf16  1e-1   26 unit roundoffs, of 650 roundings: 4 for each layer

And the cosine to the reference at least what noise of the ceiling's size leaves, 1 - ceiling^2 / 2, at most 0.999.
Gain and offset (`gain`): a range around what a baseline has, at least the roundings of a factor or two that are
stored by themselves and scale all that is behind them, and at most what is well below the 1 % that a fault may be:

    fp32  32 unit roundoffs to 1e-3, the ceiling above
    fp16  2 to 10 unit roundoffs, 5e-3
    bf16  1 to 1.5 unit roundoffs, 6e-3: conversions of golden, trained and small networks are 0.65 off at most

Where the network's own float32 is further off than the ceiling, nothing can be judged by it.

Operator gate: an activation alone, relative to max(1, |y|), at most 2e-6 in float32:

    -ln APA = h(t), t = ln(lambda) - kappa*z. Rounding t costs |t| * 2^-24, which the gate multiplies by
    APA * dh/dt <= 1/e for small lambda, where |t| <= 19 at lambda = 1e-8 as the gate passes 1/e:
    4.2e-7. The cubic for log1p is right to 1.65e-7 of h, times APA * h <= 1/e: 0.6e-7. Rounding the
    stored lambda and kappa: 2 * 2^-24 * |kappa*z| * APA * dh/dt: 2.4e-7. A few further roundings: 2e-7.
    Sum 0.9e-6; doubled for runtimes whose Exp is good to 2 ulp only.
    Our kernels keep 2.4e-7 (plugins/include/apa/math.h); what is judged with them has the same limit.

Of a half type input and output are of the type, the middle is float32: plus the one rounding of y, unit roundoff.
"""

from __future__ import annotations

from ..graph.precision import UNIT_ROUNDOFF

FACTOR = 4.0
# Of average precision, where storing in a half type alone loses nothing: a flip in a hundred.
_FLIPS = 0.01
ROUNDINGS = 32  # of float32, on the shortest path
ONE_LAYER = 4  # roundings of a half type
CEILING = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}
_COSINE = 0.999
_GAIN = {"fp32": (32, 1e-3), "fp16": (2, 5e-3), "bf16": (1, 6e-3)}  # unit roundoffs at least; at most
_OPERATOR = 2e-6
# What an innocent activation may show inside a network: the golden networks stay below 3e-6 anywhere in float32;
# of a half type the roundings of a few layers.
_NOTICEABLE, _FEW_LAYERS = 1e-5, 32


def floor_of(precision: str) -> float:
    """The least limit of the model gate."""
    return (ROUNDINGS if precision == "fp32" else ONE_LAYER) * UNIT_ROUNDOFF[precision]


def model_limit(baseline: float, precision: str) -> float:
    """The limit of the model gate; `baseline`: the error of float32, or of storing in the half type."""
    return min(max(FACTOR * baseline, floor_of(precision)), CEILING[precision])


def least_cosine(precision: str) -> float:
    """The least cosine of an output to its reference."""
    return min(_COSINE, 1 - CEILING[precision] ** 2 / 2)


def gain_room(precision: str) -> tuple[float, float]:
    """How far gain and offset may be from a baseline's: always, and at most."""
    roundings, ceiling = _GAIN[precision]
    return roundings * UNIT_ROUNDOFF[precision], ceiling


def operator_limit(precision: str) -> float:
    """The limit of the operator gate."""
    return _OPERATOR if precision == "fp32" else _OPERATOR + UNIT_ROUNDOFF[precision]


def noticeable_error(precision: str) -> float:
    """The least relative error inside a network for which an activation may be blamed."""
    return _NOTICEABLE if precision == "fp32" else _FEW_LAYERS * UNIT_ROUNDOFF[precision]


def precision_lost(stored: float) -> float:
    """The average precision that a half type may lose where storing in the type alone has `stored`, 0 to 1.

    Never more than half of what storing leaves: a limit below 0 would hold for anything.
    """
    return min(max(FACTOR * (1 - stored), _FLIPS), 1 - stored / 2)
