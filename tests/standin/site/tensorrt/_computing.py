"""What layers compute for which a model has no function body, as nodes of ONNX Runtime, in float64."""

from __future__ import annotations

from typing import Any

import onnx


def with_kernels(model: onnx.ModelProto, kernels: dict[str, Any]) -> onnx.ModelProto:
    """The model with what the kernels in the plan compute, by the coefficients in their PTX, in float64; and what
    plugins compute that give codes, for which there is no function body."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:]
    for node in model.graph.node:
        kernel = kernels.get(node.output[0]) if node.op_type.endswith("Kernel") else None
        codes = node.domain == "com.apa" and node.op_type.endswith("Codes")
        nodes = _kernel(node, *kernel["coefficients"]) if kernel else _codes(node) if codes else [node]
        found.graph.node.extend(nodes)
    return found


def _kernel(node: Any, slope: float, low: float, _: float, lambda_: float, *others: float) -> list[Any]:
    return _computing(node, [(slope + low) / 1.4426950408889634], [lambda_])


def _codes(node: Any) -> list[Any]:
    """A layer of libapa_trt.so, and QuantizeLinear."""
    given = {one.name: list(one.floats) or one.i for one in node.attribute}
    unit = onnx.NodeProto()
    unit.CopyFrom(node)
    unit.output[0] = real = f"{node.output[0]}.real"
    constants = {"scale": f"float {{{given['scale_out'][0]!r}}}", "zero": "int8 {0}"}
    text = "".join(f"{name} = Constant <value = {value}> ()\n" for name, value in constants.items())
    body = onnx.parser.parse_graph("g (float r) => (int8 y) {" + text + "y = QuantizeLinear (r, scale, zero) }")
    layer = _computing(unit, [-kappa for kappa in given["kappa"]], given["lambda"], given.get("axis", 1))
    return [*layer, *_named(body, {"r": real, "y": node.output[0]}, node.output[0])]


def _named(body: Any, names: dict[str, str], prefix: str) -> list[Any]:
    for part in body.node:
        part.input[:] = [names.get(name, f"{prefix}.{name}") for name in part.input]
        part.output[:] = [names.get(name, f"{prefix}.{name}") for name in part.output]
    return list(body.node)


def _computing(node: Any, slopes: list[float], lambdas: list[float], axis: int = 1) -> list[Any]:
    text = f"""
      x64 = Cast <to: int = 11> (x)
      sizes = Shape (x)
      rank = Shape (sizes)
      behind = Constant <value = int64[1] {{{axis + 1}}}> ()
      free = Constant <value = int64[1] {{-1}}> ()
      count = Sub (rank, behind)
      ones = ConstantOfShape <value = int64[1] {{1}}> (count)
      along = Concat <axis = 0> (free, ones)
      one = Constant <value = double {{1.0}}> ()
    """
    rates = [-1 / max(lambda_, 2.0**-100) for lambda_ in lambdas]
    general = [float(lambda_ >= 1e-7) for lambda_ in lambdas]
    for name, values in {"slope": slopes, "lambda": lambdas, "rate": rates, "general": general}.items():
        if len(values) == 1:
            text += f"{name} = Constant <value = double {{{values[0]!r}}}> ()\n"
            continue
        text += f"{name}s = Constant <value = double[{len(values)}] {{{', '.join(map(repr, values))}}}> ()\n"
        text += f"{name} = Reshape ({name}s, along)\n"
    text += f"""
      u = Mul (slope, x64)
      growth = Exp (u)
      scaled = Mul (growth, lambda)
      sum = Add (one, scaled)
      log = Log (sum)
      power = Mul (log, rate)
      limit = Neg (growth)
      isgeneral = Cast <to: int = 9> (general)
      exponent = Where (isgeneral, power, limit)
      gate = Exp (exponent)
      unit = Mul (gate, x64)
      y = CastLike ({"unit" if node.op_type.startswith("AGLU") else "gate"}, x)
    """
    body = onnx.parser.parse_graph("g (float x) => (float y) {" + text + "}")
    names = {"x": node.input[0], "y": node.output[0]}
    return _named(body, names, node.output[0])
