"""Is a quantised model good enough? Judged on held-back samples, against its own float32 form.

1. each activation    all 256 codes through the file: within 1 code of the float64 formula, which float32 may miss
                      where a result lies between two codes
2. each layer alone   the codes that reach it through the float32 layer, against what the 8-bit layer gives
3. the network        SQNR of each output; top-1 agreement where an output holds class scores
4. accuracy           where labels are given

The float32 form itself is held against the float64 module by the gate of every export. float32 is the reference of
2 and 3 because its own noise is below -120 dB, and what is judged lies between -20 and -50.

The limits, from networks trained with this activation (docs/int8.md has the figures): their outputs lie at 32 to
37 dB and agree on 99.6 to 100 %; ranges cut at the 99.9th percentile, a setting known to be bad, reach 20 to 23 dB.
25 dB lies between. 98 %: a network that is right nine times in ten then loses at most two points of accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..errors import GateError
from ..graph.layout.edit import Links
from ..graph.quantise.codes import Scale
from ..graph.quantise.plan import Layer, QuantisationPlan
from ..parity.model_gate import has_evidence
from ..records.quantisation import LayerQuality, QuantisationQuality
from .data import CalibrationData, CalibrationError
from .ranges import open_calibration_session, runs

MIN_SQNR, MIN_AGREEMENT = 25.0, 0.98
MIN_LAYER_SQNR = 25.0
_MOST_LOST = 0.01
_CODES_OFF = 1
_WORST = 3
# Of an output that is exact: more than float32 can tell.
_EXACT_DB = 150.0


class QuantisationError(GateError):
    """8 bits lose too much. `quality`: everything that was found."""

    def __init__(self, quality: QuantisationQuality) -> None:
        # One layer has to stay in 8 bits.
        worst = sorted(quality.layers, key=lambda layer: layer.sqnr)[: min(_WORST, len(quality.layers) - 1)]
        names = ", ".join(f"{layer.name} ({layer.sqnr:.1f} dB)" for layer in worst)
        advice = " ".join(f"--keep-float {layer.name}" for layer in worst)
        first = "Try"
        if worst:
            first = f"The weakest layers are {names}: try {advice}, or --auto-keep-float {len(worst)};"
        do = f"{first} more samples, like those of use; or --calibration-method mse. --min-sqnr DB accepts less."
        super().__init__("; ".join(quality.failures), "an 8-bit network close to its float32 one", do)
        self.quality = quality


def judge_quantisation(
    quantised: onnx.ModelProto,
    model: onnx.ModelProto,
    plan: QuantisationPlan,
    scales: dict[str, Scale],
    held_back: CalibrationData,
    *,
    min_sqnr: float = MIN_SQNR,
    libraries: Sequence[Path] = (),
) -> QuantisationQuality:
    """`quantised` against `model`, its float32 form; both run in ONNX Runtime here."""
    ours = _outputs(quantised, held_back, libraries)
    theirs = _outputs(model, held_back, libraries)
    sqnr = {name: decibel(theirs[name], ours[name]) for name in theirs}
    scores = [name for name, value in theirs.items() if value.ndim == 2 and value.shape[1] > 1]
    agreement = {name: float(np.mean(ours[name].argmax(1) == theirs[name].argmax(1))) for name in scores}
    accuracy = _accuracy(theirs, ours, scores, held_back)
    layers = layer_quality(quantised, model, plan, held_back, libraries)
    off = codes_off(quantised, plan, scales, libraries)
    limits = {"sqnr": min_sqnr, "agreement": MIN_AGREEMENT, "layer_sqnr": MIN_LAYER_SQNR, "codes_off": _CODES_OFF}
    quality = QuantisationQuality(
        samples=len(held_back),
        sqnr=sqnr,
        agreement=agreement,
        accuracy=accuracy,
        codes_off=off,
        layers=layers,
        limits=limits,
        failures=[],
    )
    quality.failures = list(_failures(quality))
    if not any(has_evidence([value]) for value in theirs.values()):
        names = ", ".join(theirs)
        quality.failures.append(f"the same answer of the float network to every held-back sample ({names})")
    return quality


def decibel(wanted: np.ndarray, got: np.ndarray) -> float:
    """Signal to quantisation noise, 10 log10(sum wanted^2 / sum (wanted - got)^2), at most 150 dB."""
    return _decibel(np.sum(np.square(wanted, dtype=np.float64)), np.sum(np.square(wanted - got, dtype=np.float64)))


def _decibel(signal: float, noise: float) -> float:
    if not np.isfinite(noise) or not np.isfinite(signal):  # `min` would take NaN for the best there is
        return -_EXACT_DB
    if not noise:
        return _EXACT_DB
    return float(min(_EXACT_DB, 10 * np.log10(signal / noise))) if signal else -_EXACT_DB


def _outputs(model: onnx.ModelProto, data: CalibrationData, libraries: Sequence[Path]) -> dict[str, np.ndarray]:
    names, parts = [value.name for value in model.graph.output], list[dict[str, np.ndarray]]()
    for values in runs(open_calibration_session(model, libraries), data.feed):
        parts.append({name: values[name] for name in names})
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts])[: len(data)] for name in names}


def _accuracy(
    theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray], scores: list[str], data: CalibrationData
) -> tuple[float, float] | None:
    if data.labels is None or not scores:
        return None
    highest, classes = int(data.labels.max()), max(theirs[name].shape[1] for name in scores)
    if highest >= classes:
        do = "Give the index of the true class, or leave the labels out."
        raise CalibrationError(data.origin, f"a label of {highest}", f"at most {classes - 1}, the last class", do)
    name = next(name for name in scores if theirs[name].shape[1] > highest)
    right = (float(np.mean(values[name].argmax(1) == data.labels)) for values in (theirs, ours))
    return next(right), next(right)


def _failures(quality: QuantisationQuality):  # type: ignore[no-untyped-def]
    for name, value in quality.sqnr.items():
        if not value >= quality.limits["sqnr"]:
            yield f"{name} at {value:.1f} dB, limit {quality.limits['sqnr']:g} dB"
    # The share of one sample is all that a small set can tell.
    slack = 1 / quality.samples if quality.samples * (1 - MIN_AGREEMENT) < 1 else 0.0
    for name, value in quality.agreement.items():
        if value < MIN_AGREEMENT - slack:
            yield f"{name} with the float network's top-1 on {value:.1%}, limit {MIN_AGREEMENT:.0%}"
    if quality.accuracy:
        before, after = quality.accuracy
        error = float(np.sqrt(max(before * (1 - before), 0) / quality.samples))
        if before - after > max(_MOST_LOST, 2 * error):
            yield f"accuracy {after:.1%}, from {before:.1%}"
    for layer in quality.layers:
        if not layer.sqnr >= MIN_LAYER_SQNR:
            yield f"{layer.name} alone at {layer.sqnr:.1f} dB, limit {MIN_LAYER_SQNR:g} dB"
    if quality.codes_off > _CODES_OFF:
        yield f"an activation {quality.codes_off} codes off its formula"


def layer_quality(
    quantised: onnx.ModelProto,
    model: onnx.ModelProto,
    plan: QuantisationPlan,
    data: CalibrationData,
    libraries: Sequence[Path] = (),
) -> list[LayerQuality]:
    """Each layer of `plan` alone. The sums of squares are taken inside the graph, so that no map leaves it."""
    both = onnx.ModelProto()
    both.CopyFrom(quantised)
    del both.graph.output[:]
    floats, eights = Links(model.graph), Links(quantised.graph)
    have = {tensor.name for tensor in both.graph.initializer}
    for i, layer in enumerate(plan.layers):
        _beside(both.graph, layer, i, floats, eights, have)
    sums = np.zeros((len(plan.layers), 2))
    for values in runs(open_calibration_session(both, libraries), data.feed):
        for i in range(len(plan.layers)):
            sums[i] += [values[f"layer{i}/signal"], values[f"layer{i}/noise"]]
    return [
        LayerQuality(name=layer.name, sqnr=_decibel(*total)) for layer, total in zip(plan.layers, sums, strict=True)
    ]


def _beside(graph: onnx.GraphProto, layer: Layer, i: int, floats: Links, eights: Links, have: set[str]) -> None:
    node = onnx.NodeProto()
    node.CopyFrom(floats.maker[layer.node])
    coded = eights.maker.get(layer.node) or eights.maker[layer.node + "/float"]
    coded = eights.maker[layer.node + "/float"] if coded.op_type == "DequantizeLinear" else coded
    for name in node.input[1:]:
        if name in floats.constants and name not in have:
            graph.initializer.append(floats.constants[name])
            have.add(name)
    node.input[0], node.output[0], node.name = coded.input[0], f"layer{i}/float", f"layer{i}"
    added, wanted = [node], node.output[0]
    if layer.result != layer.node:  # a Relu or Clip behind it
        cut = onnx.NodeProto()
        cut.CopyFrom(floats.maker[layer.result])
        cut.input[0], cut.output[0], cut.name = wanted, f"layer{i}/cut", f"layer{i}/cut"
        wanted = cut.output[0]
        added.append(cut)
    difference = helper.make_node("Sub", [wanted, layer.result], [f"layer{i}/difference"])
    squares = [
        helper.make_node("ReduceSumSquare", [source], [f"layer{i}/{target}"], keepdims=0)
        for source, target in ((wanted, "signal"), (difference.output[0], "noise"))
    ]
    graph.node.extend([*added, difference, *squares])
    for name in ("signal", "noise"):
        graph.output.append(helper.make_tensor_value_info(f"layer{i}/{name}", TensorProto.FLOAT, []))


def codes_off(
    quantised: onnx.ModelProto, plan: QuantisationPlan, scales: dict[str, Scale], libraries: Sequence[Path] = ()
) -> int:
    """The largest distance of an activation in the file from its formula, in codes, over all codes of its input."""
    coded = [unit for unit in plan.units if unit.source in scales]
    if not coded or plan.placement.codes.is_float:
        return 0
    from ..graph.isolate import isolate_sites

    part, inputs, outputs = isolate_sites(
        quantised, [(unit.source, _before_codes(quantised, unit.target)) for unit in coded]
    )
    codes = np.arange(plan.placement.codes.low, plan.placement.codes.high + 1)
    reals = {
        name: scales[u.source].real_of(codes).astype(np.float32) for name, u in zip(inputs, coded, strict=True)
    }
    got = open_calibration_session(part, libraries).run(outputs, reals)
    worst = 0
    for unit, value in zip(coded, got, strict=True):
        wanted = scales[unit.target].code_of(unit.curve(scales[unit.source].real_of(codes)))
        off = scales[unit.target].code_of(value).astype(int) - wanted.astype(int)
        worst = max(worst, int(np.abs(off).max()))
    return worst


def _before_codes(model: onnx.ModelProto, name: str) -> str:
    """What is made where codes of `name` are: the float value before them."""
    made = {output for node in model.graph.node for output in node.output}
    return name + "/float" if name + "/float" in made else name
