"""`--precision int8` and `fp8`: from the options of a command line to a quantised graph and its provenance."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from apa_deploy.calibration import Quantisation, quantise, read_calibration
from apa_deploy.calibration.data import FEWEST, CalibrationData
from apa_deploy.calibration.detections import judge_detections
from apa_deploy.calibration.quantisation import Quantised
from apa_deploy.choices import FP8, INT8
from apa_deploy.errors import InputError
from apa_deploy.graph.quantise import CPU, TENSORRT, TENSORRT_FP8, Placement
from apa_deploy.native import LibraryError, ort_library
from apa_deploy.network import Network, Trace
from apa_deploy.progress import notice, step
from apa_deploy.runtimes.processor import REDUCED_KEY
from apa_deploy.verification.pictures import Pictures
from apa_deploy.verification.reference import pictures_for

from .options import CodingOptions, GraphOptions, OnnxOptions

# The precision, and the lowest opset that has its codes.
CODED = {INT8: 18, FP8: 19}


def check_coding(options: GraphOptions) -> None:
    """Raise an `InputError` for what makes no sense, before long work."""
    coding = options.coding
    if coding.data is None:
        do = "Give --calibration FILE.npz."
        saw = f"--precision {options.precision} without --calibration"
        raise InputError(saw, "about 256 inputs like those of use", do)
    if options.half_io:
        raise InputError(f"--half-io with --precision {options.precision}", "fp16 or bf16", "Leave it out.")
    if coding.samples < FEWEST:
        raise InputError(f"--calibration-samples {coding.samples}", f"{FEWEST} or more", "256 is usual.")
    if coding.auto_keep_float < 0:
        raise InputError(f"--auto-keep-float {coding.auto_keep_float}", "0 or more", "Leave it out for 0.")
    if not coding.min_sqnr >= 0:
        raise InputError(f"--min-sqnr {coding.min_sqnr}", "decibels, 0 or more", "25 is the usual limit.")
    if coding.reduced and options.precision == FP8:
        raise InputError("--reduce-range with --precision fp8", "int8", "Leave it out.")


def refuse_coding(options: GraphOptions, wanted: str = "--precision int8") -> None:
    """Raise an `InputError` for an option of 8 bits without what it goes with."""
    for one in fields(CodingOptions):
        if one.name != "libraries" and getattr(options.coding, one.name) != one.default:
            saw = f"{one.metadata['option'].name or '--' + one.name.replace('_', '-')}"
            saw = f"{saw} with --precision {options.precision}"
            raise InputError(saw, wanted, "Give it, or leave the option out.")


def quantise_traced(network: Network, traced: Trace, options: OnnxOptions) -> Quantised:
    """The traced graph in 8 bits, of a detector its backbone and neck.

    Raises:
        QuantisationError: 8 bits lose too much.
        GateError: nothing is detected in the samples.
        InputError: the samples do not fit, or there is nothing to quantise.
    """
    coding = options.coding
    data, libraries = samples_of(network, traced, coding), _own_library()
    result = quantise(
        traced.proto,
        data,
        Quantisation(
            precision=options.precision,
            placement=_placement(options),
            method=coding.method,
            samples=coding.samples,
            keep_float=coding.keep_float,
            auto_keep_float=coding.auto_keep_float,
            min_sqnr=coding.min_sqnr,
            reduced=coding.reduced,
            libraries=libraries,
            judge=options.verify,
            features=traced.features,
        ),
    )
    if traced.features and options.verify and "boxes" in traced.output_names:
        with step("Judging detections against float64"):
            judge_detections(result, network, traced.features, data.split()[1], coding.min_sqnr, libraries)
    entry = result.proto.metadata_props.add()
    entry.key, entry.value = REDUCED_KEY, "true" if result.record.reduced else "false"
    if options.format == "onnx" and options.placement == "cpu":
        notice("decomposed activations run in float32 between the codes: --format onnx-custom is far faster")
    return result


def samples_of(network: Network, traced: Trace, coding: CodingOptions) -> CalibrationData:
    """What `--calibration` names."""
    assert coding.data is not None  # check_coding
    inputs = traced.proto.graph.input
    return read_calibration(coding.data, inputs, samples=coding.samples, pictures=_pictures(network))


def record_coding(options: OnnxOptions) -> dict[str, Any]:
    """What the passport keeps of the options: names of files, never folders."""
    values = {one.name: getattr(options.coding, one.name) for one in fields(CodingOptions)}
    values["data"] = Path(options.coding.data or "").name
    values["libraries"] = [path.name for path in options.coding.libraries]
    return {f"calibration_{name}": value for name, value in values.items()}


def _placement(options: OnnxOptions) -> Placement:
    if options.precision == FP8:
        return TENSORRT_FP8
    return TENSORRT if options.placement == TENSORRT.target else CPU


def _pictures(network: Network) -> Pictures | None:
    pixels = network.metadata.pixels
    if not pixels:
        return pictures_for(network, preprocess=None) if network.metadata.detector else None
    return pictures_for(network, preprocess=pixels["preprocess"], channels=pixels["channels"])


def _own_library() -> tuple[Path, ...]:
    try:
        return (ort_library(),)
    except LibraryError:
        return ()
