"""The function bodies of `com.apa`: what runs where no library is registered.

    AGLU <lambda, kappa, axis> (x)   ->   Cast, Log, Exp, Abs, Max, Div and a cubic; Where for tiny lambda

One body serves every lambda, any rank and every float type: it reads the attributes, reshapes C values
along `axis`, and computes in float32. t = ln(lambda) - kappa*x; -ln APA = (max(t,0) + log1p(e^-|t|)) / lambda.
Subnormal numbers are slow: from the `highest` t, where the gate is e^-FLOOR, it falls to 0 at once (`decompose`).
The rank is Shape(Shape(x)): shape inference takes Size(Shape(x)) for the number of elements of x, and so gets a
wrong rank wherever the shape is fixed.
"""

from __future__ import annotations

import math

import onnx
from onnx import helper, parser

from ..maths import GATE, KINDS
from .log1p_fit import log1p_coefficients
from .node import DOMAIN, VERSION, all_activations, write_defaults

# Up to here the limit exp(-exp(-kappa*x)) is right to 0.271e-7 in float32, and 1/lambda costs accuracy.
LIMIT_LAMBDA = 1e-7
# Nats from which a float32 gate falls to 0: e^-80 is normal, and so is its product with any z that is met there.
# From there t grows STEEP times as fast: no more, for fp16 holds STEEP times t, where others convert such a file.
FLOOR, STEEP = 80.0, 2.0**9
_LOWEST_IR = 8  # the first with model-local functions

_HEADER = '<opset_import: ["" : {opset}], domain: "com.apa">\n'
_SIGNATURE = "{kind} <lambda, kappa, axis, plugin_version, plugin_namespace> (x) => (y)\n"
_BODY = """
{{
  xf = Cast <to: int = 1> (x)
  lambdas = Constant <value_floats: floats = @lambda> ()
  kappas = Constant <value_floats: floats = @kappa> ()
  axis_of = Constant <value_int: int = @axis> ()
  zero_i = Constant <value_int: int = 0> ()
  one_i = Constant <value_int: int = 1> ()
  shape = Shape (x)
  ranks = Shape (shape)
  rank = Squeeze (ranks)
  wrapped = Add (axis_of, rank)
  counts_back = Less (axis_of, zero_i)
  place = Where (counts_back, wrapped, axis_of)
  places = Range (zero_i, rank, one_i)
  is_place = Equal (places, place)
  lambda_count = Shape (lambdas)
  lambda_shape = Where (is_place, lambda_count, one_i)
  lam = Reshape (lambdas, lambda_shape)
  kappa_count = Shape (kappas)
  kappa_shape = Where (is_place, kappa_count, one_i)
  kap = Reshape (kappas, kappa_shape)

  smallest = Constant <value_float: float = {limit:.9e}> ()
  zero = Constant <value_float: float = 0.0> ()
  one = Constant <value_float: float = 1.0> ()
  two = Constant <value_float: float = 2.0> ()
  ordinary = Greater (lam, smallest)
  safe = Where (ordinary, lam, one)
  log_lambda = Log (safe)
  kx = Mul (kap, xf)
  floor = Constant <value_float: float = {floor:.9e}> ()
  steep = Constant <value_float: float = {steep:.9e}> ()
  back = Constant <value_float: float = {back:.9e}> ()
  power = Mul (floor, safe)
  npower = Neg (power)
  gate_floor = Exp (npower)
  rest = Sub (one, gate_floor)
  log_rest = Log (rest)
  highest = Add (power, log_rest)
  ratio = Sub (log_lambda, kx)
  ratio_back = Mul (highest, back)
  ratio_steep = Mul (ratio, steep)
  beyond = Add (ratio_steep, ratio_back)
  t = Max (ratio, beyond)
  magnitude = Abs (t)
  below = Neg (magnitude)
  w = Exp (below)
  w2 = Add (w, two)
  s = Div (w, w2)
  u = Mul (s, s)
  c0 = Constant <value_float: float = {c[0]:.9e}> ()
  c1 = Constant <value_float: float = {c[1]:.9e}> ()
  c2 = Constant <value_float: float = {c[2]:.9e}> ()
  c3 = Constant <value_float: float = {c[3]:.9e}> ()
  p3 = Mul (c3, u)
  p2 = Add (p3, c2)
  p2u = Mul (p2, u)
  p1 = Add (p2u, c1)
  p1u = Mul (p1, u)
  p0 = Add (p1u, c0)
  log1p = Mul (s, p0)
  positive = Max (t, zero)
  softplus = Add (positive, log1p)
  scaled = Div (softplus, safe)
  exponent = Neg (scaled)
  general = Exp (exponent)
  nkx = Neg (kx)
  limit_back = Constant <value_float: float = {limit_back:.9e}> ()
  limit_steep = Mul (nkx, steep)
  limit_beyond = Add (limit_steep, limit_back)
  exponent_of = Max (nkx, limit_beyond)
  growth = Exp (exponent_of)
  ngrowth = Neg (growth)
  limit = Exp (ngrowth)
  gate = Where (ordinary, general, limit)
  {result}
  y = CastLike (yf, x)
}}
"""
_RESULT = {GATE: "yf = Identity (gate)", "AGLU": "yf = Mul (xf, gate)"}


def function_body(kind: str, opset: int) -> onnx.FunctionProto:
    """The function of `kind` (APA or AGLU) for models of this opset of the standard domain."""
    # nothing that constant folding could fold: tools that do it break bodies
    back = 1 - STEEP
    constants = {
        "limit": LIMIT_LAMBDA, "floor": FLOOR, "steep": STEEP, "back": back, "limit_back": back * math.log(FLOOR),
    }  # fmt: skip
    body = _BODY.format(**constants, c=log1p_coefficients(4), result=_RESULT[kind])
    return parser.parse_function(_HEADER.format(opset=opset) + _SIGNATURE.format(kind=kind) + body)


def with_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself, carrying a body for each kind of canonical node that it uses.

    Raises:
        InputError: a node's attributes cannot be read.
    """
    nodes = list(all_activations(model.graph))
    for node in nodes:
        write_defaults(node)
    used = {node.op_type for node in nodes}
    kept = [f for f in model.functions if f.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    model.functions.extend(function_body(kind, standard_opset(model)) for kind in KINDS if kind in used)
    if used and not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return model


def standard_opset(model: onnx.ModelProto) -> int:
    """The opset of the standard domain that `model` declares."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def lowest_ir_version(proto: onnx.ModelProto) -> int:
    """The lowest IR version that is legal for the model's opsets and functions: old runtimes read it."""
    return max(_LOWEST_IR, helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True))
