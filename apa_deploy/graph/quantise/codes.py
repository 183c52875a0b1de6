"""The 8-bit codes of a value: real = scale * (code - zero), and what they cost.

u8    0 to 255, any zero: half a bit more than s8 where a range is as lopsided as an activation's
s8    -128 to 127, zero 0: what TensorRT takes
e4m3  float8: 448 largest, 3 bits of mantissa; zero 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

if TYPE_CHECKING:  # it comes with torch, which an image that only serves has not
    from ...maths import Float64

Array = NDArray[Any]
# The range of a value that was 0 throughout: any scale stores it exactly.
_NO_RANGE = 1.0


@dataclass(frozen=True)
class Codes:
    """One kind of 8-bit code. `low`, `high`: the ends of the codes; `weight_high`: of weights, whose zero is 0."""

    name: str
    element: int
    dtype: Any
    low: int
    high: int
    weight_high: int

    @property
    def symmetric(self) -> bool:
        return self.low < 0

    @property
    def is_float(self) -> bool:
        return self.element == TensorProto.FLOAT8E4M3FN


U8 = Codes("u8", TensorProto.UINT8, np.uint8, 0, 255, 127)
S8 = Codes("s8", TensorProto.INT8, np.int8, -128, 127, 127)
E4M3 = Codes("e4m3", TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, -448, 448, 448)


@dataclass(frozen=True)
class Scale:
    """real = scale * (code - zero); `scale` as float32 stores it."""

    scale: float
    zero: int
    codes: Codes

    def code_of(self, x: Array) -> Array:
        """The codes of real numbers, rounded to even and saturated, as QuantizeLinear does."""
        scaled = np.asarray(x, np.float64) / self.scale
        if self.codes.is_float:
            return np.clip(scaled, self.codes.low, self.codes.high).astype(np.float32).astype(self.codes.dtype)
        codes = np.clip(np.rint(scaled) + self.zero, self.codes.low, self.codes.high)
        return np.asarray(codes, dtype=self.codes.dtype)

    def real_of(self, code: Array) -> Float64:
        """What codes stand for."""
        return (np.asarray(code, np.float64) - self.zero) * self.scale


def scale_of(low: float, high: float, codes: Codes) -> Scale:
    """The scale that spans a range, 0 in it, with 0 stored exactly: padding is 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    if codes.symmetric:
        top = max(-low, high) or _NO_RANGE
        return Scale(_round_scale(top / codes.high), 0, codes)
    scale = _round_scale((high - low or _NO_RANGE) / (codes.high - codes.low))
    return Scale(scale, int(np.clip(np.rint(-low / scale), codes.low, codes.high)), codes)


def _round_scale(scale: float) -> float:
    """As float32, and never so small that its reciprocal is infinite there."""
    return float(np.float32(max(scale, 1e-30)))


def weight_scales(weight: Array, axis: int, codes: Codes, *, reduced: bool = False) -> NDArray[np.float32]:
    """One scale for each slice of `weight` along `axis`, shape (C,).

    `reduced`: 7 bits instead of 8, for processors whose kernels add two products in 16 bits and saturate.
    """
    flat = np.moveaxis(np.asarray(weight, np.float64), axis, 0).reshape(weight.shape[axis], -1)
    top = np.abs(flat).max(axis=1, initial=0.0)
    top[top == 0] = _NO_RANGE
    highest = codes.weight_high // 2 if reduced and not codes.is_float else codes.weight_high
    return np.maximum(top / highest, 1e-30).astype(np.float32)


def weight_codes(weight: Array, scales: Array, axis: int, codes: Codes) -> Array:
    """`weight` in codes, zero 0: int8, or float8 where the codes are."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled = np.asarray(weight, np.float64) / scales.astype(np.float64).reshape(shape)
    kept = np.clip(scaled, -codes.weight_high, codes.weight_high)
    return kept.astype(np.float32).astype(codes.dtype) if codes.is_float else np.rint(kept).astype(np.int8)
