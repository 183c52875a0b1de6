"""From a canonical model and samples to a quantised model, its judgement and its record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from ..errors import InputError
from ..graph.functions import with_functions
from ..graph.pieces import end_graph_at
from ..graph.quantise import (
    CPU,
    Placement,
    QuantisationPlan,
    make_plan,
    prepare_for_plan,
    quantise_graph,
    scales_of,
)
from ..graph.quantise.codes import Scale
from ..graph.quantise.plan import summary
from ..graph.quantise.structure import Structure
from ..progress import notice, step
from ..records.quantisation import CodedValue, QuantisationRecord
from ..runtimes.processor import saturates, vector_instructions
from .data import ENOUGH, SAMPLES, CalibrationData
from .gate import MIN_SQNR, QuantisationError, judge_quantisation, layer_quality
from .ranges import Ranges, collect_ranges

# Of a held-back sample beyond the calibrated range: more than this share says that there were too few.
_BEYOND = 0.1


@dataclass(frozen=True)
class Quantisation:
    """How to quantise.

    `method`: one of choices.CALIBRATIONS; `keep_float`: patterns of names; `auto_keep_float`: how many of the
    weakest layers stay float as well; `reduced`: 7-bit weights, None: where this processor wants them;
    `libraries`: of the custom operators that the model needs; `judge`: whether to hold it against its float32 form;
    `features`: values at which the 8-bit part ends, () for all of the model.
    """

    precision: str = "int8"
    placement: Placement = CPU
    method: str = "minmax"
    samples: int = SAMPLES
    keep_float: tuple[str, ...] = ()
    auto_keep_float: int = 0
    min_sqnr: float = MIN_SQNR
    reduced: bool | None = None
    libraries: tuple[Path, ...] = ()
    judge: bool = True
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantised:
    """`proto`: with explicit Q/DQ, canonical activations; `float32`: what it was made of."""

    proto: onnx.ModelProto
    float32: onnx.ModelProto
    plan: QuantisationPlan
    scales: dict[str, Scale]
    record: QuantisationRecord


def quantise(model: onnx.ModelProto, data: CalibrationData, options: Quantisation) -> Quantised:
    """Quantise a canonical float32 `model`, which stays as it is.

    Raises:
        QuantisationError: 8 bits lose too much.
        InputError: there is nothing to quantise, a pattern matches nothing, or the model does not run.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    prepare_for_plan(with_functions(whole))  # bodies: the library may not be built
    plain = end_graph_at(whole, options.features) if options.features else whole
    used, held_back = data.split()
    reduced = options.placement.around and saturates() if options.reduced is None else options.reduced
    with step(f"Calibrating on {len(used)} samples"):
        result = _quantise_plain(plain, used, options, reduced)
    if options.auto_keep_float:
        count = len(result.plan.layers)
        if options.auto_keep_float >= count:
            saw, do = f"--auto-keep-float {options.auto_keep_float}", "Give fewer, or use --precision fp16."
            raise InputError(saw, f"fewer than the {count} layers that are in 8 bits", do)
        weakest = _weakest(result, used, options)
        notice(f"--auto-keep-float: {', '.join(weakest)} stay float")
        options = replace(options, keep_float=(*options.keep_float, *weakest))
        result = _quantise_plain(plain, used, options, reduced)
    notice(summary(result.plan))
    _warn(result, data, held_back, options)
    if options.judge:
        with step(f"Judging on {len(held_back)} held-back samples"):
            quality = judge_quantisation(
                result.proto, plain, result.plan, result.scales, held_back,
                min_sqnr=options.min_sqnr, libraries=options.libraries,
            )  # fmt: skip
        result.record.quality = quality
        if not quality.passed:
            raise QuantisationError(quality)
    result.record.data, result.record.data_sha256, result.record.samples = (
        Path(data.origin).name,
        data.sha256,
        len(data),
    )
    return _behind_features(result, whole) if options.features else result


def _behind_features(result: Quantised, whole: onnx.ModelProto) -> Quantised:
    """The same codes in the whole model; what follows them stays float."""
    inside = {name for node in result.float32.graph.node for name in node.output}
    structure = Structure(whole)
    for node in whole.graph.node:
        if node.output[0] not in inside and structure.weight_of(node):
            result.record.kept[structure.label(node)] = "decides about detections"
    proto = quantise_graph(whole, result.plan, result.scales, reduced=result.record.reduced)
    return replace(result, proto=proto, float32=whole)


def _quantise_plain(
    plain: onnx.ModelProto, used: CalibrationData, options: Quantisation, reduced: bool
) -> Quantised:
    plan = make_plan(plain, options.placement, options.keep_float, options.features)
    ranges = collect_ranges(
        plain, list(plan.groups), used.feed,
        method=options.method, codes=options.placement.codes, libraries=options.libraries,
    )  # fmt: skip
    scales = scales_of(plan, ranges)
    proto = quantise_graph(plain, plan, scales, reduced=reduced)
    return Quantised(proto, plain, plan, scales, _record(plan, ranges, scales, options, reduced))


def _record(
    plan: QuantisationPlan, ranges: Ranges, scales: dict[str, Scale], options: Quantisation, reduced: bool
) -> QuantisationRecord:
    values = [
        CodedValue(name=n, low=ranges[n][0], high=ranges[n][1], scale=s.scale, zero=s.zero)
        for n, s in scales.items()
    ]
    return QuantisationRecord(
        precision=options.precision,
        target=plan.placement.target,
        method=options.method,
        data="",
        data_sha256="",
        samples=0,
        reduced=reduced,
        vector_instructions=vector_instructions(),
        values=values,
        layers=[layer.name for layer in plan.layers],
        activations=[unit.name for unit in plan.units],
        kept=plan.kept,
    )


def _weakest(result: Quantised, used: CalibrationData, options: Quantisation) -> list[str]:
    """The layers that lose most alone; judged on calibration samples: the held-back ones are for the verdict."""
    found = layer_quality(result.proto, result.float32, result.plan, used, options.libraries)
    return [layer.name for layer in sorted(found, key=lambda one: one.sqnr)[: options.auto_keep_float]]


def _warn(result: Quantised, data: CalibrationData, held_back: CalibrationData, options: Quantisation) -> None:
    warnings = result.record.warnings
    if len(data) < ENOUGH:
        warnings.append(f"{len(data)} samples are few: about {SAMPLES} are good")
    if options.method == "minmax":
        seen = collect_ranges(
            result.float32, list(result.plan.groups), held_back.feed,
            method="minmax", codes=options.placement.codes, libraries=options.libraries,
        )  # fmt: skip
        beyond = [v.name for v in result.record.values if _exceeds(seen[v.name], (v.low, v.high))]
        if beyond:
            count = f"{len(beyond)} of {len(seen)} values"
            warnings.append(
                f"held-back samples leave the calibrated range of {count} by over 10 %: give more samples"
            )
    for text in warnings:
        notice(text)


def _exceeds(seen: tuple[float, float], known: tuple[float, float]) -> bool:
    slack = _BEYOND * (known[1] - known[0])
    return seen[0] < known[0] - slack or seen[1] > known[1] + slack
