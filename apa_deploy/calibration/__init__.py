"""Bring a canonical float32 model to 8 bits: read samples (`data`), measure ranges (`ranges`), judge (`gate`)."""

from .data import CalibrationData, CalibrationError, read_calibration
from .gate import QuantisationError
from .quantisation import Quantisation, Quantised, quantise

__all__ = [
    "CalibrationData",
    "CalibrationError",
    "Quantisation",
    "QuantisationError",
    "Quantised",
    "quantise",
    "read_calibration",
]
