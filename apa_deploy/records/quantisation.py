"""What a passport keeps of a quantised model: the data, the ranges, what stayed float, and how it was judged."""

from __future__ import annotations

from pydantic import BaseModel


class CodedValue(BaseModel):
    """A value in codes: real = scale * (code - zero). `low`, `high`: what calibration saw of it."""

    name: str
    low: float
    high: float
    scale: float
    zero: int


class LayerQuality(BaseModel):
    """A layer alone, on the codes that reach it: signal to noise against the same layer in float32, in dB."""

    name: str
    sqnr: float


class DetectionQuality(BaseModel):
    """Of a detector: average precision on held-back pictures, with float64's detections for the truth."""

    pictures: int
    average_precision: float
    limit: float


class QuantisationQuality(BaseModel):
    """The network on samples that were never calibrated on.

    `sqnr`: dB, by output; `agreement`: share of samples with the float network's top-1, by output of class scores;
    `accuracy`: top-1 of the float network and of this one, where labels are given; `codes_off`: of the activations'
    tables, the largest distance in codes between what the file computes and the float64 formula.
    """

    samples: int
    sqnr: dict[str, float]
    agreement: dict[str, float]
    accuracy: tuple[float, float] | None
    codes_off: int
    layers: list[LayerQuality]
    limits: dict[str, float]
    failures: list[str]
    detections: DetectionQuality | None = None

    @property
    def passed(self) -> bool:
        return not self.failures


class QuantisationRecord(BaseModel):
    """How a model came to 8 bits.

    `reduced`: whether weights have 7 bits; `vector_instructions`: of the processor that calibrated.
    """

    precision: str
    target: str
    method: str
    data: str
    data_sha256: str
    samples: int
    reduced: bool
    vector_instructions: str
    values: list[CodedValue]
    layers: list[str]
    activations: list[str]
    kept: dict[str, str]
    warnings: list[str] = []
    quality: QuantisationQuality | None = None
